"""Every sentence that a person reads, in Chinese and English, and nothing else.

Keys are `<area>.<code>`; the codes are those that the other modules emit, so a test can check that
each code has its words. Placeholders are `str.format` fields named after the fact they show.
"""

from __future__ import annotations

from typing import Any

LANGUAGES = ("zh", "en")


def text(key: str, lang: str, **facts: Any) -> str:
    """The text of `key` in `lang` with its placeholders filled.

    Raises:
        KeyError: there is no such text, or a fact it names is missing: a bug, found by tests.
    """
    zh, en = TEXTS[key]
    return (zh if lang == "zh" else en).format(**facts)


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
}
