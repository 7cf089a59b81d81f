"""Every sentence that a person reads, in Chinese and English, and nothing else.

Keys are `<area>.<code>`; the codes are those that the other modules emit, so a test can check that
each code has its words. Placeholders are `str.format` fields named after the fact they show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LANGUAGES = ("zh", "en")


def text(key: str, lang: str, **facts: Any) -> str:
    """The text of `key` in `lang` with its placeholders filled.

    Raises:
        KeyError: there is no such text, or a fact it names is missing: a bug, found by tests.
    """
    zh, en = TEXTS[key]
    words = {
        name: text(fact.key, lang, **fact.facts) if isinstance(fact, Phrase) else fact
        for name, fact in facts.items()
    }
    return (zh if lang == "zh" else en).format(**words)


@dataclass(frozen=True, init=False)
class Phrase:
    """A fact that is itself a text: put into another text, it is in that text's language."""

    key: str
    facts: dict[str, Any]

    def __init__(self, key: str, **facts: Any) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "facts", facts)

    def __str__(self) -> str:
        return text(self.key, "en", **self.facts)


def negotiate(accept_language: str, default: str = "en") -> str:
    """The language of an Accept-Language header (RFC 9110, 12.5.4): "zh" or "en"."""
    ranked: list[tuple[float, str]] = []
    for part in accept_language.split(","):
        tag, _, q_text = part.strip().partition(";q=")
        try:
            quality = float(q_text) if q_text else 1.0
        except ValueError:
            quality = 0.0
        primary = tag.lower().split("-")[0]
        if primary in LANGUAGES:
            ranked.append((quality, primary))
    # max() keeps the first of equals: the order of the header.
    return max(ranked, key=lambda pair: pair[0])[1] if ranked else default


TEXTS: dict[str, tuple[str, str]] = {
    # --- emotions ---------------------------------------------------------------------------
    "emotion.angry": ("愤怒", "Angry"),
    "emotion.disgusted": ("厌恶", "Disgusted"),
    "emotion.fearful": ("恐惧", "Fearful"),
    "emotion.happy": ("快乐", "Happy"),
    "emotion.neutral": ("中性", "Neutral"),
    "emotion.other": ("其他", "Other"),
    "emotion.sad": ("悲伤", "Sad"),
    "emotion.surprised": ("惊讶", "Surprised"),
    "emotion.unknown": ("未知", "Unknown"),
    # --- what is wrong with a model's files, a device or a download: {problem} of an error --------
    "model.no_directory": ("没有这个目录，也不是模型库的 ID（形如 iic/emotion2vec_plus_large）", "there is no such directory, and it is not a hub id (such as iic/emotion2vec_plus_large)"),
    "model.missing_file": ("文件不存在", "the file is missing"),
    "model.empty_file": ("文件是空的", "the file is empty"),
    "model.lfs_pointer": ("这是 Git-LFS 指针而不是文件本身，请安装 git-lfs 后运行 git lfs pull，或用 download 命令下载", "this is a Git-LFS pointer, not the file itself; run `git lfs pull` with git-lfs installed, or use the download command"),
    "model.unreadable": ("无法读取，文件可能不完整或已损坏（{detail}）", "it cannot be read and may be cut or damaged ({detail})"),
    "model.old_tokens": ("这是旧的标签表，只有 {count} 个可用标签，应有 9 个；请从模型库的 master 版本重新下载 tokens.txt", "this is the old list of labels with {count} usable ones, and 9 are needed; fetch tokens.txt again from the hub's revision `master`"),
    "model.other_tokens": ("标签与 emotion2vec 的九个不同：{found}", "its labels are not emotion2vec's nine: {found}"),
    "model.other_kind": ("这不是 Emotion2vec 模型的配置（model: {found}）", "this does not describe an Emotion2vec model (model: {found})"),
    "model.build_failed": ("无法据此建立模型（{detail}）", "the model cannot be built ({detail})"),
    "model.import_failed": ("缺少或损坏的 Python 包（{detail}），请运行 pip install -r requirements.txt", "a Python package is missing or broken ({detail}); run pip install -r requirements.txt"),
    "model.missing_weights": ("缺少 {count} 个权重：{names}", "{count} of the weights are missing: {names}"),
    "model.wrong_shape": ("权重 {name} 的形状是 {found}，应为 {expected}", "the weight {name} has the shape {found}; {expected} was expected"),
    "model.not_finite": ("权重 {name} 含有 NaN 或无穷大", "the weight {name} holds NaN or infinite values"),
    "model.changed_while_read": ("读取时文件被替换，请重试", "the file was replaced while it was read; try again"),
    "model.slim_unusable": ("精简权重不完整或属于另一个模型，而原始的 model.pt 不在", "the slim weights are damaged or of another model, and the model.pt they came from is not here"),
    "device.no_cuda": ("没有可用的 NVIDIA 显卡或驱动", "no NVIDIA GPU or driver is available"),
    "device.cpu_torch": ("安装的是 CPU 版 PyTorch（{version}）", "the installed PyTorch ({version}) is built for the CPU only"),
    "device.no_such_gpu": ("只有 {count} 块显卡，最后一块是 cuda:{last}", "there are {count} GPUs; the last is cuda:{last}"),
    "device.no_dtype": ("不支持 {precision}（{detail}）", "it cannot compute in {precision} ({detail})"),
    "download.offline": ("本机没有该模型，而 --offline 不允许联网", "it is not on this machine, and --offline forbids the network"),
    "download.unreachable": ("无法连接下载源，或连接中断（{detail}）", "the hub cannot be reached, or the connection broke ({detail})"),
    "download.not_found": ("下载源上没有该模型或版本", "the hub has no such model or revision"),
    "download.incomplete_repository": ("下载源上缺少文件：{names}", "these files are missing on the hub: {names}"),
    "download.mismatch": ("收到的文件与下载源列出的大小或校验值不符（{detail}）", "what came has another size or hash than the hub lists ({detail})"),
    "download.damaged": ("{name} 的大小或 SHA-256 与下载源列出的不符，已删除", "{name} has another size or SHA-256 than the hub lists; it was removed"),
    "download.no_room": ("需要 {needed_mb:.0f} MB，而 {path} 所在磁盘只剩 {free_mb:.0f} MB", "{needed_mb:.0f} MB are needed, and the disk of {path} has {free_mb:.0f} MB left"),
    "download.disk_full": ("磁盘已满", "the disk is full"),
    "download.failed": ("{detail}", "{detail}"),
    # --- errors: what was found and expected; then what to do ---------------------------------
    "error.internal": (
        "服务器内部错误，编号 {error_id}。",
        "Something went wrong inside the server, id {error_id}.",
    ),
    "error.internal.hint": (
        "日志中有同一编号的详细信息；请连同编号一起反馈。",
        "The log has the details under the same id; please quote it when you report this.",
    ),
    "error.bad_request": ("请求无效：{problem}", "The request cannot be used: {problem}"),
    "error.bad_request.hint": ("接口说明见 /docs。", "The API is described at /docs."),
    "error.no_audio": ("没有收到音频。", "No recording came with the request."),
    "error.no_audio.hint": (
        "请上传或录制一段音频；接口请用表单字段 audio 提交文件。",
        "Upload or record one; over HTTP send the file in the form field `audio`.",
    ),
    "error.bad_field": (
        "字段 {field} 的值 {value} 无效，允许的值：{allowed}。",
        "The field {field} has the value {value}; allowed: {allowed}.",
    ),
    "error.bad_field.hint": ("请改用允许的值。", "Send one of the allowed values."),
    "error.upload_too_large": (
        "文件超过 {limit_mb:g} MB 的上限。",
        "The file is larger than the limit of {limit_mb:g} MB.",
    ),
    "error.upload_too_large.hint": (
        "请剪短或压缩为 FLAC、MP3，或用 --max-upload-mb 提高上限。",
        "Cut it, or send it as FLAC or MP3; the operator can raise --max-upload-mb.",
    ),
    "error.audio_too_long": (
        "音频长 {duration_s:.0f} 秒以上，超过 {limit_s:g} 秒的上限。",
        "The recording lasts {duration_s:.0f} s or more; the limit is {limit_s:g} s.",
    ),
    "error.audio_too_long.hint": (
        "请分段上传，或用 --max-duration-s 提高上限。",
        "Send it in parts; the operator can raise --max-duration-s.",
    ),
    "error.cannot_decode": (
        "没有解码器能读取 {name}：{reasons}",
        "No decoder can read {name}: {reasons}",
    ),
    "error.cannot_decode.hint": (
        "请确认文件完整且确实是音频，或转换为 WAV、FLAC、MP3 后重试。",
        "Check that the file is complete and really audio, or convert it to WAV, FLAC or MP3.",
    ),
    "error.audio_unusable": ("音频无法使用：{problem}", "The recording cannot be used: {problem}"),
    "error.audio_unusable.hint": ("请重新录制。", "Record it again."),
    "error.audio_too_short": (
        "音频只有 {duration_ms:.1f} 毫秒，至少需要 {minimum_ms:g} 毫秒。",
        "The recording lasts {duration_ms:.1f} ms; at least {minimum_ms:g} ms are needed.",
    ),
    "error.audio_too_short.hint": (
        "建议录制 3-8 秒、情感明确的一句话。",
        "Best are 3 to 8 seconds: one clear sentence.",
    ),
    "error.audio_empty": ("文件中没有任何采样。", "The file holds no samples."),
    "error.audio_empty.hint": (
        "录音可能没有开始或没有保存；请重新录制。",
        "The recording may not have started or was not saved; record it again.",
    ),
    "error.audio_not_finite": (
        "音频含有 {count} 个非数值（NaN 或无穷大）采样。",
        "The recording holds {count} samples that are NaN or infinite.",
    ),
    "error.audio_not_finite.hint": (
        "请重新导出该文件，例如保存为 16 位 WAV。",
        "Export the file again, for example as 16-bit WAV.",
    ),
    "error.audio_silent": (
        "音频是数字静音：所有采样都相同。",
        "The recording is digital silence: every sample is the same.",
    ),
    "error.audio_silent.hint": (
        "请检查麦克风是否静音、选择是否正确，然后重新录制。",
        "Check that the microphone is not muted and is the right one, then record again.",
    ),
    "error.forbidden": ("不允许此操作。", "This is not allowed."),
    "error.forbidden.hint": ("请联系管理员。", "Ask the operator."),
    "error.unauthorized": (
        "需要密码或密钥，或其不正确。",
        "A password or key is needed, or it is wrong.",
    ),
    "error.unauthorized.hint": (
        "请登录，或在请求头中加上 Authorization: Bearer <密钥>。",
        "Log in, or send the header Authorization: Bearer <key>.",
    ),
    "error.foreign_origin": (
        "来自其他网站 {origin} 的页面不能调用此服务。",
        "Pages of another site, {origin}, may not call this server.",
    ),
    "error.foreign_origin.hint": (
        "管理员可用 --allowed-origins 允许该网站。",
        "The operator can allow that site with --allowed-origins.",
    ),
    "error.rate_limited": (
        "超过每分钟 {limit_per_minute} 次的限制。",
        "More than {limit_per_minute} requests a minute came with this key.",
    ),
    "error.rate_limited.hint": (
        "请在 {retry_after_s} 秒后重试。",
        "Try again in {retry_after_s} s.",
    ),
    "error.unavailable": ("暂时无法服务。", "The server cannot answer just now."),
    "error.unavailable.hint": (
        "请在 {retry_after_s} 秒后重试。",
        "Try again in {retry_after_s} s.",
    ),
    "error.queue_full": (
        "已有 {waiting} 个请求在等待，达到上限 {limit}。",
        "{waiting} requests are waiting already; the limit is {limit}.",
    ),
    "error.queue_full.hint": ("请在 {retry_after_s} 秒后重试。", "Try again in {retry_after_s} s."),
    "error.model_not_ready": (
        "模型尚未就绪（{state}，已等待 {seconds:.0f} 秒）。",
        "The model is not ready ({state}, for {seconds:.0f} s).",
    ),
    "error.model_not_ready.hint": (
        "请在 {retry_after_s} 秒后重试；/ready 会说明进度。",
        "Try again in {retry_after_s} s; /ready tells how far it is.",
    ),
    "error.shutting_down": ("服务正在停止。", "The server is stopping."),
    "error.shutting_down.hint": (
        "请在 {retry_after_s} 秒后重试。",
        "Try again in {retry_after_s} s.",
    ),
    "error.model_error": ("模型出错：{problem}", "The model failed: {problem}"),
    "error.model_error.hint": ("请运行 doctor 命令检查。", "Run the doctor command."),
    "error.model_files": (
        "模型文件不可用（{path}）：{problem}",
        "The model files cannot be used ({path}): {problem}",
    ),
    "error.model_files.hint": (
        "请删除该文件并运行 download 命令重新下载。",
        "Delete the file and fetch it again with the download command.",
    ),
    "error.model_download": (
        "模型 {model} 下载失败：{problem}",
        "The model {model} could not be downloaded: {problem}",
    ),
    "error.model_download.hint": (
        "请检查网络后重试（已下载的部分会续传），或用 --hub hf 换一个来源，或把模型文件夹放入 models/。",
        "Check the network and try again (what has arrived is kept), try the other --hub, "
        "or put the model's folder into models/.",
    ),
    "error.model_load": (
        "模型 {model} 加载失败：{problem}",
        "The model {model} could not be loaded: {problem}",
    ),
    "error.model_load.hint": (
        "请运行 doctor 命令检查环境和模型文件。",
        "Run the doctor command: it checks packages and files.",
    ),
    "error.device_unavailable": (
        "设备 {device} 不可用：{problem}",
        "The device {device} is not available: {problem}",
    ),
    "error.device_unavailable.hint": (
        "请改用 --device auto 或 --cpu，或检查显卡驱动。",
        "Use --device auto or --cpu, or check the GPU driver.",
    ),
    "error.out_of_memory": (
        "{device} 内存不足，连 {window_s:g} 秒的窗口也放不下。",
        "{device} is out of memory, even for one window of {window_s:g} s.",
    ),
    "error.out_of_memory.hint": (
        "请关闭其他占用显存的程序，或使用 --low-vram 或 --cpu。",
        "Close other programs that use it, or start with --low-vram or --cpu.",
    ),
    "error.cannot_write": ("无法写入 {path}：{problem}", "Cannot write {path}: {problem}"),
    "error.cannot_write.hint": (
        "请检查文件夹权限，或用 --outputs 换一个位置。",
        "Check the folder's permissions, or choose another with --outputs.",
    ),
    "error.disk_full": (
        "磁盘已满（剩余 {free_mb:.0f} MB），结果没有保存。",
        "The disk is full ({free_mb:.0f} MB left); nothing was saved.",
    ),
    "error.disk_full.hint": (
        "请清理空间，或用 --keep-days 自动删除旧结果。",
        "Free some space, or let --keep-days remove old results.",
    ),
    "error.not_found": ("找不到 {name}。", "There is no {name}."),
    "error.not_found.hint": ("它可能已被删除。", "It may have been removed."),
    # --- reading of the scores ------------------------------------------------------------------
    "list.join": ("、", " and "),
    "band.high": ("高", "High"),
    "band.medium": ("中", "Medium"),
    "band.low": ("低", "Low"),
    "band.unreliable": ("不可靠", "Unreliable"),
    "advice.use": ("结果可以直接使用。", "The result can be used as it is."),
    "advice.check_context": (
        "结果基本可信，请结合上下文判断。",
        "The result is plausible; check it against the context.",
    ),
    "advice.check_audio": (
        "把握不大：请检查录音质量，或重新录制。",
        "The model is not sure: check the recording, or record it again.",
    ),
    "advice.record_again": (
        "结果不可靠，请重新录制：3-8 秒、一句情感明确的话。",
        "Do not rely on this result. Record again: 3 to 8 seconds, one sentence with one clear emotion.",
    ),
    "advice.improve_audio_first": (
        "得分虽高，但录音质量差：请先改善录音，再采信结果。",
        "The score is high but the recording is poor: improve the recording before you believe it.",
    ),
    "advice.confirm_with_large_model": (
        "内置小模型比较确定；用于业务决策前，请用 emotion2vec_plus_large 复核。",
        "The small built-in model is fairly sure; confirm it with emotion2vec_plus_large before anything depends on it.",
    ),
    "advice.no_emotion_recognised": (
        "没有识别出情感：可能不是语音，或语音不清楚。",
        "No emotion was recognised: this may not be speech, or not clear enough.",
    ),
    "advice.outside_the_list": (
        "情感不在所列的七种之中（例如无聊、困惑）。",
        "The emotion is none of the seven listed ones (boredom or confusion, for example).",
    ),
    "shape.single": (
        "单一情感：{leader}（{percent}）。",
        "One emotion stands out: {leader} ({percent}).",
    ),
    "shape.double": (
        "两种情感并存，以{leader}为先（{percent}）。",
        "Two emotions stand side by side, {leader} first ({percent}).",
    ),
    "shape.flat": (
        "得分几乎平均分布，没有任何情感突出。",
        "The scores are spread almost evenly: no emotion stands out.",
    ),
    "shape.graded": ("以{leader}为主（{percent}）。", "{leader} leads ({percent})."),
    "mixture.with": ("{leader}，兼有{beside}。", " {leader} with {beside}."),
    "mixture.dissatisfaction_under_calm": (
        "愤怒与中性并存：表面平静，内心强烈不满。",
        " Angry and neutral together: strong dissatisfaction under a calm surface.",
    ),
    "caveat.compact_model": (
        "由内置小模型回答：它只学过三种语言的表演语音，准确率远低于 emotion2vec_plus_large。",
        "The small built-in model answered: it has learned from actors in three languages only and is far less accurate than emotion2vec_plus_large.",
    ),
    "caveat.flat_distribution": (
        "得分接近平均，等于没有判断。",
        "The scores are nearly even, which is no judgement at all.",
    ),
    "caveat.near_tie": (
        "前两名得分接近，再录一遍可能互换。",
        "The first two are close: another take may swap them.",
    ),
    "warning.truncated": (
        "文件不完整：文件头声明的内容多于实际内容，只识别了读到的部分。",
        "The file is cut off: its header promises more than it holds; only what is there was recognised.",
    ),
    "note.model_load_slow": (
        "提示：模型加载超过 {limit:g} 秒，请检查 GPU 与磁盘。",
        "Note: loading the model took over {limit:g} s; look at the GPU and the disk.",
    ),
    "note.inference_slow": (
        "提示：推理超过 {limit:.0f} 秒，请检查内存或显存是否不足。",
        "Note: inference took over {limit:.0f} s; look at the memory of the GPU or machine.",
    ),
    "note.downsampled": (
        "提示：由 {value:.0f} Hz 重采样，{limit:.0f} Hz 以上的内容已舍去（模型听不到）。",
        "Note: resampled from {value:.0f} Hz; what lay above {limit:.0f} Hz was dropped (the model does not hear it).",
    ),
    "note.upsampled": (
        "提示：原采样率只有 {value:.0f} Hz，{limit:.0f} Hz 以上没有内容，准确率会下降。",
        "Note: the file has only {value:.0f} Hz; there is nothing above {limit:.0f} Hz, which costs accuracy.",
    ),
    # --- quality of the recording: what each warning says -----------------------------------------
    "quality.clipping": (
        "削波：录音电平过高，波峰被截平。",
        "Clipped: the level was too high and the peaks are cut off.",
    ),
    "quality.clipping_hidden": (
        "削波后又被调低：波峰仍是平的。",
        "Clipped and turned down later: the peaks are flat below full scale.",
    ),
    "quality.bandwidth_telephone": (
        "电话频带（4 kHz 以下）：部分情感线索已丢失。",
        "Telephone band (below 4 kHz): some of what carries emotion is gone.",
    ),
    "quality.bandwidth_upsampled": (
        "由较低采样率升频而来：高频没有内容。",
        "Resampled up from a lower rate: the high band is empty.",
    ),
    "quality.bandwidth_lossy": (
        "高频被有损压缩切除（低码率 MP3 等）。",
        "The high band was cut off by lossy compression (a low-bitrate MP3, for example).",
    ),
    "quality.bandwidth_narrow": ("有效频带偏窄。", "The effective bandwidth is narrow."),
    "quality.low_band_weak": (
        "100-300 Hz 能量偏弱：音高线索不足。",
        "Little energy at 100-300 Hz, where the pitch of the voice lies.",
    ),
    "quality.presence_band_weak": (
        "2-4 kHz 能量偏弱：声音发闷。",
        "Little energy at 2-4 kHz: the voice sounds muffled.",
    ),
    "quality.dropouts": ("有断续：部分语音缺失。", "Dropouts: parts of the speech are missing."),
    "quality.snr_low": (
        "信噪比低于 20 dB：背景噪声偏大。",
        "The signal-to-noise ratio is below 20 dB: there is much background noise.",
    ),
    "quality.snr_unstable": (
        "信噪比低于 10 dB：结果不稳定，容易偏向中性。",
        "The signal-to-noise ratio is below 10 dB: results are unstable and drift to neutral.",
    ),
    "quality.level_low": ("音量很低。", "The recording is very quiet."),
    "quality.speech_missing": ("没有检测到语音。", "No speech was found."),
    "quality.speech_short": ("语音不足半秒。", "There is less than half a second of speech."),
    "quality.speech_share_low": ("大部分是静音或噪声。", "Most of it is silence or noise."),
    "quality.leading_silence_short": (
        "开头留白不足 0.3 秒。",
        "Less than 0.3 s is kept before the speech.",
    ),
    "quality.trailing_silence_short": (
        "结尾留白不足 0.3 秒。",
        "Less than 0.3 s is kept after the speech.",
    ),
    "quality.onset_cut": ("开头可能被截断。", "The beginning seems to be cut off."),
    "quality.offset_cut": ("结尾可能被截断。", "The end seems to be cut off."),
    "quality.duration_short": ("时长偏短，建议 3-8 秒。", "It is short; 3 to 8 seconds are best."),
    "quality.duration_long": (
        "时长偏长：一个整体标签难以概括，请用帧级粒度查看变化。",
        "It is long for a single label; look at it with frame granularity.",
    ),
    "quality.dc_offset": ("存在直流偏移。", "There is a DC offset."),
    "quality.channels_opposed": (
        "两个声道相位相反，混成单声道会互相抵消。",
        "The two channels have opposite phase and cancel each other in mono.",
    ),
    "quality.channels_differ": (
        "两个声道内容不同（可能是双方通话），建议分开识别。",
        "The two channels hold different sounds (two parties of a call, perhaps): recognise each by itself.",
    ),
    "quality.codec_telephone": ("电话编码（如 G.711）。", "A telephone codec (such as G.711)."),
    "quality.resampled_up": ("采样率低于 16 kHz。", "The sample rate is below 16 kHz."),
    # --- its checks: names ------------------------------------------------------------------------
    "check.clipping": ("削波", "Clipping"),
    "check.clipping_hidden": ("隐藏削波", "Hidden clipping"),
    "check.bandwidth": ("有效带宽", "Bandwidth"),
    "check.low_band": ("低频 100-300 Hz", "Low band 100-300 Hz"),
    "check.presence_band": ("中高频 2-4 kHz", "Presence 2-4 kHz"),
    "check.dropouts": ("断续", "Dropouts"),
    "check.snr": ("信噪比", "Signal-to-noise ratio"),
    "check.level": ("音量", "Level"),
    "check.speech_present": ("语音时长", "Speech found"),
    "check.speech_share": ("语音占比", "Share of speech"),
    "check.leading_silence": ("开头留白", "Silence before"),
    "check.trailing_silence": ("结尾留白", "Silence after"),
    "check.onset": ("开头完整", "Onset"),
    "check.offset": ("结尾完整", "Ending"),
    "check.duration": ("时长", "Duration"),
    "check.dc_offset": ("直流偏移", "DC offset"),
    "check.channels": ("声道相关", "Channels"),
    "check.codec": ("编码", "Codec"),
    "check.resampling": ("采样率", "Sample rate"),
    # --- its remedies -----------------------------------------------------------------------------
    "remedy.lower_gain": ("调低录音增益后重录。", "Record again with less gain."),
    "remedy.undo_gain_at_source": (
        "从原始录音开始处理，避免先削波再调低。",
        "Go back to the source: lower the gain there.",
    ),
    "remedy.use_original_recording": (
        "请使用未升频的原始文件。",
        "Use the original file, not the one resampled up.",
    ),
    "remedy.use_wider_band": (
        "请用宽带（16 kHz 或以上）录音。",
        "Record wideband, at 16 kHz or more.",
    ),
    "remedy.use_higher_bitrate": (
        "请提高码率，或使用 WAV/FLAC。",
        "Use a higher bitrate, or WAV or FLAC.",
    ),
    "remedy.check_low_cut": (
        "关闭麦克风的低切滤波。",
        "Switch the microphone's low-cut filter off.",
    ),
    "remedy.uncover_microphone": (
        "检查麦克风是否被遮挡。",
        "See that nothing covers the microphone.",
    ),
    "remedy.check_connection": (
        "检查网络或无线连接。",
        "Check the network or wireless connection.",
    ),
    "remedy.quieter_place": ("换一个安静的地方。", "Record in a quieter place."),
    "remedy.move_closer": ("靠近麦克风，约 15 厘米。", "Move closer: about 15 cm."),
    "remedy.speak": ("请对着麦克风说话。", "Speak into the microphone."),
    "remedy.trim_silence": ("剪去多余的静音。", "Cut the silence away."),
    "remedy.keep_300_ms": ("前后各留 0.3 秒。", "Keep 0.3 s at both ends."),
    "remedy.start_earlier": ("早一点开始录音。", "Start recording earlier."),
    "remedy.stop_later": ("晚一点停止录音。", "Stop recording later."),
    "remedy.record_longer": ("录长一些。", "Record a little longer."),
    "remedy.aim_for_3_to_8_s": ("以 3-8 秒为宜。", "Aim for 3 to 8 seconds."),
    "remedy.split_by_sentence": ("按句切分后逐句识别。", "Split it by sentence."),
    "remedy.remove_dc": (
        "检查声卡，或去除直流分量。",
        "Check the sound card, or remove the offset.",
    ),
    "remedy.fix_channel_polarity": ("将一个声道反相。", "Invert one channel."),
    "remedy.split_channels": ("将声道拆开分别识别。", "Split the channels."),
    "remedy.use_lossless": ("尽量使用无损格式。", "Use a lossless format where you can."),
}
