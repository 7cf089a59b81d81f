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
    "model.no_directory": (
        "没有这个目录，也不是模型库的 ID（形如 iic/emotion2vec_plus_large）",
        "there is no such directory, and it is not a hub id (such as iic/emotion2vec_plus_large)",
    ),
    "model.missing_file": ("文件不存在", "the file is missing"),
    "model.empty_file": ("文件是空的", "the file is empty"),
    "model.lfs_pointer": (
        "这是 Git-LFS 指针而不是文件本身，请安装 git-lfs 后运行 git lfs pull，或用 download 命令下载",
        "this is a Git-LFS pointer, not the file itself; run `git lfs pull` with git-lfs installed, or use the download command",
    ),
    "model.unreadable": (
        "无法读取，文件可能不完整或已损坏（{detail}）",
        "it cannot be read and may be cut or damaged ({detail})",
    ),
    "model.old_tokens": (
        "这是旧的标签表，只有 {count} 个可用标签，应有 9 个；请从模型库的 master 版本重新下载 tokens.txt",
        "this is the old list of labels with {count} usable ones, and 9 are needed; fetch tokens.txt again from the hub's revision `master`",
    ),
    "model.other_tokens": (
        "标签与 emotion2vec 的九个不同：{found}",
        "its labels are not emotion2vec's nine: {found}",
    ),
    "model.other_kind": (
        "这不是 Emotion2vec 模型的配置（model: {found}）",
        "this does not describe an Emotion2vec model (model: {found})",
    ),
    "model.build_failed": ("无法据此建立模型（{detail}）", "the model cannot be built ({detail})"),
    "model.import_failed": (
        "缺少或损坏的 Python 包（{detail}），请运行 pip install -r requirements.txt",
        "a Python package is missing or broken ({detail}); run pip install -r requirements.txt",
    ),
    "model.missing_weights": (
        "缺少 {count} 个权重：{names}",
        "{count} of the weights are missing: {names}",
    ),
    "model.wrong_shape": (
        "权重 {name} 的形状是 {found}，应为 {expected}",
        "the weight {name} has the shape {found}; {expected} was expected",
    ),
    "model.not_finite": (
        "权重 {name} 含有 NaN 或无穷大",
        "the weight {name} holds NaN or infinite values",
    ),
    "model.changed_while_read": (
        "读取时文件被替换，请重试",
        "the file was replaced while it was read; try again",
    ),
    "model.slim_unusable": (
        "精简权重不完整或属于另一个模型，而原始的 model.pt 不在",
        "the slim weights are damaged or of another model, and the model.pt they came from is not here",
    ),
    "device.no_cuda": ("没有可用的 NVIDIA 显卡或驱动", "no NVIDIA GPU or driver is available"),
    "device.cpu_torch": (
        "安装的是 CPU 版 PyTorch（{version}）",
        "the installed PyTorch ({version}) is built for the CPU only",
    ),
    "device.no_such_gpu": (
        "只有 {count} 块显卡，最后一块是 cuda:{last}",
        "there are {count} GPUs; the last is cuda:{last}",
    ),
    "device.no_dtype": (
        "不支持 {precision}（{detail}）",
        "it cannot compute in {precision} ({detail})",
    ),
    "download.offline": (
        "本机没有该模型，而 --offline 不允许联网",
        "it is not on this machine, and --offline forbids the network",
    ),
    "download.unreachable": (
        "无法连接下载源，或连接中断（{detail}）",
        "the hub cannot be reached, or the connection broke ({detail})",
    ),
    "download.not_found": ("下载源上没有该模型或版本", "the hub has no such model or revision"),
    "download.incomplete_repository": (
        "下载源上缺少文件：{names}",
        "these files are missing on the hub: {names}",
    ),
    "download.mismatch": (
        "收到的文件与下载源列出的大小或校验值不符（{detail}）",
        "what came has another size or hash than the hub lists ({detail})",
    ),
    "download.damaged": (
        "{name} 的大小或 SHA-256 与下载源列出的不符，已删除",
        "{name} has another size or SHA-256 than the hub lists; it was removed",
    ),
    "download.no_room": (
        "需要 {needed_mb:.0f} MB，而 {path} 所在磁盘只剩 {free_mb:.0f} MB",
        "{needed_mb:.0f} MB are needed, and the disk of {path} has {free_mb:.0f} MB left",
    ),
    "download.disk_full": ("磁盘已满", "the disk is full"),
    "download.failed": ("{detail}", "{detail}"),
    # --- ui: the page ----------------------------------------------------------------------------
    "ui.title": ("语音情感识别", "Speech emotion recognition"),
    "ui.claim": (
        "听一段语音，给出情感，并说明结果有多可信。录音只在本服务器上处理。",
        "Hears the emotion in a voice and says how far to trust the answer. Recordings stay on this server.",
    ),
    "ui.theme": ("切换浅色或深色", "Switch between light and dark"),
    "ui.language": ("语言", "Language"),
    "ui.audio": ("上传音频文件或录音", "Upload or record audio"),
    "ui.granularity": ("粒度选择", "Granularity"),
    "ui.granularity.utterance": (
        "整句级别 (utterance)\n整段语音给出一个情感，适合 3-8 秒的一句话",
        "Utterance\nOne emotion for the whole recording; best for one sentence",
    ),
    "ui.granularity.frame": (
        "帧级别 (frame)\n每 20 毫秒一组得分，看情感如何随时间变化",
        "Frame\nScores every 20 ms: how the emotion moves over time",
    ),
    "ui.embedding": ("提取 Embedding 特征", "Extract the embedding"),
    "ui.embedding.info": (
        "保存模型的特征向量 (embedding.npy)，供聚类、检索或训练使用",
        "Saves the model's feature vector (embedding.npy) for search, clusters or training",
    ),
    "ui.start": ("开始识别", "Recognise"),
    "ui.cancel": ("取消", "Cancel"),
    "ui.example": ("加载示例音频", "Load example"),
    "ui.example.note": (
        "示例为合成语音，并非真人",
        "The example is a synthetic voice, not a person",
    ),
    "ui.example.missing": ("没有找到示例音频。", "The example recording is missing."),
    "ui.tips": ("录音建议", "Recording tips"),
    "ui.tips.distance": (
        "距麦克风约 15 厘米，环境安静",
        "About 15 cm from the microphone, in a quiet place",
    ),
    "ui.tips.length": ("3-8 秒，前后各留 0.3 秒", "3 to 8 seconds, with 0.3 s kept at both ends"),
    "ui.tips.sentence": ("一句话，一种明确的情感", "One sentence with one clear emotion"),
    "ui.tips.format": ("格式优先级：WAV > FLAC > MP3", "Formats, best first: WAV > FLAC > MP3"),
    "ui.empty.title": ("结果会显示在这里", "The result appears here"),
    "ui.empty.text": (
        "上传或录制一段语音，然后点击“开始识别”。",
        "Upload or record some speech, then press Recognise.",
    ),
    "ui.empty.emotion": (
        "主要情感、置信度与使用建议",
        "The emotion, how sure it is and what to do with it",
    ),
    "ui.empty.scores": ("九种情感的得分分布", "The scores of all nine emotions"),
    "ui.empty.quality": (
        "录音质量：波形、噪声、削波等检查",
        "The recording: waveform, noise, clipping and more",
    ),
    "ui.empty.time": (
        "帧级别：情感随时间的变化与字幕导出",
        "With frames: emotion over time, and subtitles",
    ),
    "ui.empty.files": ("结果文件下载", "All files for download"),
    # progress
    "ui.running": ("正在识别 {name}", "Working on {name}"),
    "ui.running.seconds": ("已用 {seconds:.0f} 秒", "{seconds:.0f} s so far"),
    "ui.step.decode": ("读取与检查录音", "Read and check the recording"),
    "ui.step.model": ("等待模型", "Wait for the model"),
    "ui.step.inference": ("识别情感", "Recognise"),
    "ui.step.save": ("保存结果", "Save the result"),
    "ui.stress": ("抗噪测试", "Test robustness"),
    "ui.stress.about": (
        "在不同噪声和编码下再识别 {count} 次，看结果是否改变",
        "Recognises it {count} more times under noise and codecs, to see where the answer changes",
    ),
    "ui.stress.running": ("正在对 {name} 做抗噪测试", "Testing the robustness of {name}"),
    "ui.stress.prepare": ("正在制作加噪和编码的版本", "Preparing the noisy and coded versions"),
    "ui.stress.done": (
        "已完成 {done} / {total} 种条件",
        "{done} of {total} conditions done",
    ),
    "ui.cancelled": ("已取消，没有保存任何内容。", "Cancelled; nothing was saved."),
    "ui.uploading": (
        "正在接收录音，完成后自动开始识别……",
        "The recording is still arriving; recognition starts when it is here.",
    ),
    "ui.error": ("未能完成识别", "No result"),
    # model badge
    "ui.model.idle": ("模型尚未启动", "The model has not started"),
    "ui.model.importing": (
        "正在启动运行环境（{seconds:.0f} 秒）",
        "Starting the runtime ({seconds:.0f} s)",
    ),
    "ui.model.downloading": ("正在下载 {wanted}", "Downloading {wanted}"),
    "ui.model.loading": (
        "正在加载 {wanted}（{seconds:.0f} 秒）",
        "Loading {wanted} ({seconds:.0f} s)",
    ),
    "ui.model.ready": ("{answering} 已就绪", "{answering} is ready"),
    "ui.model.compact": (
        "内置小模型 compact 正在回答",
        "The small built-in model (compact) answers",
    ),
    "ui.model.failed": ("{wanted} 不可用", "{wanted} is not available"),
    "ui.model.early": (
        "现在就可以提交，模型就绪后自动识别。",
        "You can start now: requests wait for the model.",
    ),
    "ui.model.limits": (
        "它很小，准确率远低于 emotion2vec_plus_large，请勿据此做决定。",
        "It is small and far less accurate than emotion2vec_plus_large: decide nothing on its word.",
    ),
    "ui.model.chosen": ("由 --model compact 指定。", "Chosen with --model compact."),
    "ui.model.rate": ("{done} / {total}，{rate}/s", "{done} of {total}, {rate}/s"),
    "ui.model.eta_s": ("剩余约 {seconds:.0f} 秒", "about {seconds:.0f} s left"),
    "ui.model.eta_min": ("剩余约 {minutes:.0f} 分钟", "about {minutes:.0f} min left"),
    "ui.model.retry_in": ("{seconds:.0f} 秒后自动重试", "next attempt in {seconds:.0f} s"),
    "ui.model.retry": ("立即重试", "Try again now"),
    "ui.notice.compact_while_downloading": (
        "emotion2vec_plus_large 下载完成前由它代答。",
        "It stands in until emotion2vec_plus_large is downloaded.",
    ),
    "ui.notice.compact_while_loading": (
        "emotion2vec_plus_large 加载完成前由它代答。",
        "It stands in until emotion2vec_plus_large is loaded.",
    ),
    "ui.notice.compact_offline": (
        "本机没有 emotion2vec_plus_large，且处于离线模式。",
        "emotion2vec_plus_large is not on this machine, and the program is offline.",
    ),
    "ui.notice.compact_download_failed": (
        "emotion2vec_plus_large 下载失败，由它代答。",
        "emotion2vec_plus_large could not be downloaded; it stands in.",
    ),
    "ui.notice.compact_load_failed": (
        "emotion2vec_plus_large 无法加载，由它代答。",
        "emotion2vec_plus_large could not be loaded; it stands in.",
    ),
    # result
    "ui.result": ("识别结果", "Result"),
    "ui.confidence": ("置信度: {percent}", "confidence {percent}"),
    "ui.answered_by": ("由 {model} 识别", "Answered by {model}"),
    "ui.warnings": ("请注意", "Please note"),
    "ui.warnings.more": ("另有 {count} 项", "{count} more"),
    "ui.scores": ("详细得分分布", "All nine scores"),
    "ui.scores.margin": ("领先第二名 {margin}", "{margin} ahead of the second"),
    "ui.quality": ("录音质量", "The recording"),
    "ui.quality.good": ("良好", "Good"),
    "ui.quality.fair": ("一般", "Fair"),
    "ui.quality.poor": ("较差", "Poor"),
    "ui.quality.fine": ("{count} 项检查正常", "{count} checks are fine"),
    "ui.quality.unknown": ("{count} 项无法判断", "{count} could not be told"),
    "ui.quality.spectrum": ("平均频谱", "Mean spectrum"),
    "ui.verdict.ok": ("正常", "Fine"),
    "ui.verdict.warn": ("注意", "Warning"),
    "ui.verdict.fail": ("不合格", "Fails"),
    "ui.verdict.unknown": ("未知", "Unknown"),
    "ui.wave": ("波形（深色为语音部分）", "Waveform (speech is dark)"),
    "ui.wave.clipping": ("红色处削波", "clipped where red"),
    "ui.play": ("播放或暂停", "Play or pause"),
    "ui.seek": ("播放位置", "Position"),
    "ui.time": ("情感随时间的变化", "Emotion over time"),
    "ui.time.hint": (
        "点击图表可跳转。曲线按 0.2 秒平滑；result.json 含每一帧的得分。",
        "Click to jump. Curves are smoothed over 0.2 s; result.json holds every frame.",
    ),
    "ui.time.peak": (
        "最强：{emotion} {percent}，{start}-{end}",
        "Peak: {emotion} {percent}, {start} to {end}",
    ),
    "ui.time.weighted": ("加权窗口：{emotion} {percent}", "Weighted window: {emotion} {percent}"),
    "ui.segments": ("情感片段", "Segments"),
    "ui.utterances": ("逐句识别", "Sentence by sentence"),
    "ui.rows_left_out": ("另有 {count} 行，见导出文件。", "{count} more rows are in the files."),
    "ui.column.start": ("开始", "Start"),
    "ui.column.end": ("结束", "End"),
    "ui.column.emotion": ("情感", "Emotion"),
    "ui.column.confidence": ("置信度", "Confidence"),
    "ui.column.band": ("可信度", "Trust"),
    "ui.files": ("下载", "Downloads"),
    "ui.files.export": ("导出为", "Export as"),
    "ui.files.segments": ("情感片段导出为", "Segments as"),
    "ui.files.sentences": ("逐句结果导出为", "Sentences as"),
    "ui.files.zip": ("全部打包", "All as zip"),
    "ui.details": ("模型、文件与用时", "Model, file and timing"),
    "ui.details.model": ("模型", "Model"),
    "ui.details.device": ("设备与精度", "Device and precision"),
    "ui.details.weights": ("权重", "Weights"),
    "ui.details.file": ("文件", "File"),
    "ui.details.format": ("格式", "Format"),
    "ui.details.timing": ("用时", "Timing"),
    "ui.details.timing.value": (
        "解码 {decode:.2f} 秒，推理 {inference:.2f} 秒，共 {total:.2f} 秒",
        "decoding {decode:.2f} s, inference {inference:.2f} s, in all {total:.2f} s",
    ),
    "ui.details.entropy": ("分布熵", "Entropy"),
    "ui.details.entropy.value": (
        "{bits:.2f} 比特（最大值的 {percent}）",
        "{bits:.2f} bits ({percent} of the maximum)",
    ),
    "ui.embedding.title": ("Embedding 特征", "Embedding"),
    "ui.embedding.shape": ("形状", "Shape"),
    "ui.embedding.norm": ("L2 范数", "L2 norm"),
    "ui.embedding.range": ("此模型的正常范围", "Usual for this model"),
    "ui.embedding.article": ("原文给出的范围", "Range in the article"),
    "ui.embedding.unmeasured": ("尚未测量", "not measured"),
    "ui.norm.normal": ("正常", "normal"),
    "ui.norm.low": ("偏低", "low"),
    "ui.norm.high": ("偏高", "high"),
    "ui.norm.unknown": ("无法判断", "cannot be judged"),
    "ui.log": ("处理日志", "Processing log"),
    "ui.footer.api": ("接口文档", "API"),
    "ui.footer": (
        "自动识别会出错：请勿单凭它评价或决定一个人。",
        "Automatic recognition errs: never judge or decide about a person on it alone.",
    ),
    # --- report: a result on paper -----------------------------------------------------------------
    "report.title": ("语音情感识别报告", "Speech emotion report"),
    "report.date": ("时间", "Date"),
    "report.number": ("编号", "Number"),
    "report.granularity": ("粒度", "Granularity"),
    "report.audio": ("模型听到的录音", "The recording as the model heard it"),
    "report.print": ("可打印或另存为 PDF", "Print it or save it as PDF"),
    "report.sha256": ("文件 SHA-256", "File SHA-256"),
    "report.facts": ("文件与模型", "File and model"),
    "report.time.weighted": (
        "加权窗口：{emotion} {percent}",
        "Weighted window: {emotion} {percent}",
    ),
    "report.more_rows": (
        "另有 {count} 行，见结果文件。",
        "{count} more rows are in the result's files.",
    ),
    "report.mind": ("使用须知", "Before you rely on this"),
    "report.mind.errs": (
        "自动识别会出错。得分是模型对声音的判断，不是对说话人真实感受的测量。",
        "Automatic recognition errs. The scores are a model's judgement of a voice, not a measure of what the speaker feels.",
    ),
    "report.mind.lies": (
        "它不是测谎仪，也不能诊断疾病、性格或意图。",
        "It is no lie detector, and it diagnoses neither illness nor character nor intent.",
    ),
    "report.mind.person": (
        "请勿单凭本报告评价或决定一个人；录音须经本人同意。",
        "Never judge or decide about a person on this report alone, and record only with consent.",
    ),
    "report.licence": (
        "模型权重受其发布页所列许可（FunASR Model License）约束，使用时须注明来源与作者。",
        "The model's weights are under the licence of their hub page (FunASR Model License), which asks for attribution.",
    ),
    "report.licence.compact": (
        "内置 compact 模型的权重采用 CC BY-NC-SA 4.0 许可：不得用于商业目的。",
        "The weights of the built-in compact model are under CC BY-NC-SA 4.0: not for commercial use.",
    ),
    "report.foot": (
        "由 emotion2vec_ui {version} 于 {time} 生成",
        "Made by emotion2vec_ui {version} on {time}",
    ),
    "report.comparison": ("识别结果对比", "Results side by side"),
    "report.comparison.count": (
        "{count} 个结果；差异相对于 A",
        "{count} results; differences are from A",
    ),
    "report.comparison.results": ("各个结果", "The results"),
    "report.comparison.points": (
        "右列：与 A 相差的百分点。",
        "Right column: difference from A in percentage points.",
    ),
    "report.comparison.alike": ("相似程度", "How alike they are"),
    "report.comparison.distance": (
        "得分与 A 的差距（0% 相同，100% 毫无重叠）",
        "Distance of the scores from A (0%: equal, 100%: nothing shared)",
    ),
    "report.comparison.cosine": (
        "Embedding 余弦相似度（1 为同向）",
        "Cosine of the embeddings (1: same direction)",
    ),
    "report.comparison.no_cosine": (
        "没有可比的 Embedding：需要同一模型、且都保存了特征。",
        "No embeddings to compare: both results need one, from the same model.",
    ),
    # --- history: past results ----------------------------------------------------------------------
    "history.title": ("历史", "History"),
    "history.main": ("识别", "Recognise"),
    "history.emotion": ("情感", "Emotion"),
    "history.band": ("可信度", "Trust"),
    "history.quality": ("录音质量", "Recording"),
    "history.model": ("模型", "Model"),
    "history.text": ("文件名包含", "File name contains"),
    "history.date_from": ("从", "From"),
    "history.date_to": ("到", "To"),
    "history.sort": ("排序", "Sort by"),
    "history.sort.newest": ("最新在前", "Newest first"),
    "history.sort.oldest": ("最早在前", "Oldest first"),
    "history.sort.confidence": ("置信度从高到低", "Most confident first"),
    "history.sort.confidence_low": ("置信度从低到高", "Least confident first"),
    "history.sort.name": ("文件名", "File name"),
    "history.sort.duration": ("时长", "Longest first"),
    "history.quality.good": ("良好", "Good"),
    "history.quality.fair": ("一般", "Fair"),
    "history.quality.poor": ("较差", "Poor"),
    "history.quality.none": ("未评估", "Not judged"),
    "history.column.time": ("时间", "Time"),
    "history.column.file": ("文件", "File"),
    "history.column.duration": ("时长", "Length"),
    "history.column.select": ("选择", "Select"),
    "history.found": ("共 {total} 个结果", "{total} results"),
    "history.range": ("第 {first}-{last} 个，共 {total} 个", "{first} to {last} of {total}"),
    "history.damaged": (
        "另有 {count} 个文件夹已损坏，无法读取",
        "{count} more folders are damaged and cannot be read",
    ),
    "history.none": ("还没有结果。", "There are no results yet."),
    "history.none_fit": ("没有符合条件的结果。", "No result fits these filters."),
    "history.previous": ("上一页", "Previous"),
    "history.next": ("下一页", "Next"),
    "history.refresh": ("刷新", "Refresh"),
    "history.export": ("导出 CSV", "Export CSV"),
    "history.compare": ("对比所选", "Compare selected"),
    "history.report": ("报告（可打印）", "Report to print"),
    "history.close": ("关闭", "Close"),
    "history.delete": ("删除", "Delete"),
    "history.delete.sure": (
        "永久删除这个结果及其录音？",
        "Remove this result and its recording for good?",
    ),
    "history.delete.yes": ("确认删除", "Yes, delete"),
    "history.deleted": ("已删除 {folder}。", "{folder} was removed."),
    "history.old": (
        "这是旧版 WebUI 的结果，只有基本字段；报告页给出可以读出的内容。",
        "This result is of the first WebUI and has only the basic fields; its report shows what can be read from them.",
    ),
    "history.caveat.models_differ": (
        "这些结果由不同的模型给出：得分不在同一尺度上，差异可能来自模型而不是声音。",
        "Different models answered: their scores are not on one scale, and a difference may come from the model, not the voice.",
    ),
    "history.caveat.qualities_differ": (
        "录音质量不同：部分差异可能来自噪声或削波。",
        "The recordings differ in quality: part of a difference may come from noise or clipping.",
    ),
    "history.caveat.granularities_differ": (
        "粒度不同；这里比较的都是整段录音的得分。",
        "The granularities differ; what is compared are the scores of the whole recordings.",
    ),
    "history.caveat.same_recording": (
        "它们是同一个文件的结果。",
        "All of them are results of the same file.",
    ),
    # --- doctor: names of checks, values, remedies ------------------------------------------------
    "doctor.python": ("Python", "Python"),
    "doctor.setuptools": ("setuptools（提供 distutils）", "setuptools (provides distutils)"),
    "doctor.packages": ("Python 包", "Packages"),
    "doctor.requirements": (
        "与 requirements.txt 不符的版本",
        "Versions other than requirements.txt asks for",
    ),
    "doctor.torch_and_torchaudio": ("torch 与 torchaudio", "torch and torchaudio"),
    "doctor.torchaudio": ("torch 与 torchaudio", "torch and torchaudio"),
    "doctor.decoders": ("音频解码", "Audio decoders"),
    "doctor.soundfile": ("soundfile（WAV、FLAC、OGG、MP3）", "soundfile (WAV, FLAC, OGG, MP3)"),
    "doctor.ffmpeg": ("FFmpeg 解码器（M4A、WebM、视频）", "FFmpeg decoders (M4A, WebM, video)"),
    "doctor.gpu": ("显卡", "GPU"),
    "doctor.memory": ("内存", "Memory"),
    "doctor.disk": ("磁盘", "Disk"),
    "doctor.outputs_writable": ("输出文件夹", "Output folder"),
    "doctor.outputs": ("输出文件夹可写", "Output folder can be written"),
    "doctor.outputs_disk": ("输出文件夹所在磁盘", "Disk of the output folder"),
    "doctor.port": ("端口", "Port"),
    "doctor.model": ("模型", "Model"),
    "doctor.compact": ("内置 compact 模型", "Built-in compact model"),
    "doctor.check_broke": ("检查本身出错：{detail}", "the check itself failed: {detail}"),
    "doctor.not_installed": ("未安装", "not installed"),
    "doctor.missing": ("缺少 {names}", "missing: {names}"),
    "doctor.torchaudio_cuda": (
        "{pair}：torchaudio 是 CUDA 版，而 torch 不是；本程序会绕开它",
        "{pair}: torchaudio is built for CUDA and torch is not; this program works around it",
    ),
    "doctor.no_gpu": (
        "没有 NVIDIA 显卡或驱动；使用 CPU",
        "no NVIDIA GPU or driver; the CPU is used",
    ),
    "doctor.cpu_torch": (
        "有 NVIDIA 显卡，但安装的 PyTorch 只支持 CPU",
        "there is an NVIDIA GPU, but the installed PyTorch is built for the CPU only",
    ),
    "doctor.gpu_memory": (
        "{name}，显存 {total_mb:.0f} MB，空闲 {free_mb:.0f} MB",
        "{name}, {total_mb:.0f} MB of memory, {free_mb:.0f} MB free",
    ),
    "doctor.disk_value": (
        "剩余 {free_gb:.1f} GB，outputs 已用 {least}{outputs_mb:.0f} MB",
        "{free_gb:.1f} GB free, outputs hold {least}{outputs_mb:.0f} MB",
    ),
    "doctor.rotational": (
        "{name} 是机械硬盘（或如此自称的虚拟盘）",
        "{name} is a spinning disk (or a virtual one that says so)",
    ),
    "doctor.port_ours": (
        "{address}：本程序正在运行",
        "{address}: this program is running there",
    ),
    "doctor.port_taken": ("{address} 已被占用：{holder}", "{address} is taken by {holder}"),
    "doctor.model_here": (
        "{id}，{path}，{size_mb:.0f} MB，精简权重：{slim}",
        "{id}, {path}, {size_mb:.0f} MB, slim weights: {slim}",
    ),
    "doctor.model_absent": ("{id} 不在本机", "{id} is not on this machine"),
    "doctor.compact_absent": ("文件缺失", "its files are missing"),
    "doctor.remedy.python": ("请安装 Python 3.10 或更新的版本。", "Install Python 3.10 or newer."),
    "doctor.remedy.setuptools": (
        "请运行 pip install setuptools：funasr 需要其中的 distutils。",
        "Run pip install setuptools: funasr needs its distutils.",
    ),
    "doctor.remedy.install": (
        "请运行 pip install -r requirements.txt。",
        "Run pip install -r requirements.txt.",
    ),
    "doctor.remedy.torchaudio": (
        "可以不处理；或卸载 torchaudio，或安装与 torch 同一来源的版本。",
        "Nothing needs doing; to be rid of it, uninstall torchaudio or install it from where torch came from.",
    ),
    "doctor.remedy.codecs": (
        "请重新安装 av（pip install --force-reinstall av），其中自带这些解码器。",
        "Reinstall av (pip install --force-reinstall av); it brings these decoders.",
    ),
    "doctor.remedy.no_gpu": (
        "请安装显卡驱动，或改用 --device auto 或 --cpu。",
        "Install the GPU driver, or use --device auto or --cpu.",
    ),
    "doctor.remedy.cpu_torch": (
        "要使用显卡，请按 pytorch.org 的说明安装 CUDA 版 PyTorch。",
        "To use the GPU, install a CUDA build of PyTorch as pytorch.org says.",
    ),
    "doctor.remedy.small_gpu": (
        "显存少于 6 GB：请使用 --low-vram 或 --cpu。",
        "Less than 6 GB: use --low-vram or --cpu.",
    ),
    "doctor.remedy.medium_gpu": (
        "够用；建议 11 GB。长音频可加 --low-vram。",
        "Enough; 11 GB are recommended. For long recordings --low-vram helps.",
    ),
    "doctor.remedy.memory": (
        "建议 16 GB；可用 --medvq 使权重减半，并关闭其他程序。",
        "16 GB are recommended; --medvq halves the weights; close other programs.",
    ),
    "doctor.remedy.disk": (
        "请清理磁盘，或用 --outputs 换一个位置，或用 --keep-days 自动删除旧结果。",
        "Free some space, choose another place with --outputs, or let --keep-days remove old results.",
    ),
    "doctor.remedy.disk_model": (
        "下载模型需要约 3 GB。",
        "Downloading the model takes about 3 GB.",
    ),
    "doctor.remedy.outputs": (
        "请修改文件夹权限，或用 --outputs 换一个位置。",
        "Change the folder's permissions, or choose another place with --outputs.",
    ),
    "doctor.remedy.rotational": (
        "可以使用；放在 SSD 上会更快（--outputs）。",
        "It works; on an SSD it is faster (--outputs).",
    ),
    "doctor.remedy.port": (
        "请停止该程序，或用 --server-port 换一个端口。",
        "Stop that program, or choose another port with --server-port.",
    ),
    "doctor.remedy.address": (
        "请检查 --server-name 和 --server-port。",
        "Check --server-name and --server-port.",
    ),
    "doctor.remedy.open_server": (
        "其他机器可以访问且没有保护：请加 --auth 或 --api-key。",
        "Other machines can reach it and nothing protects it: add --auth or --api-key.",
    ),
    "doctor.remedy.model": (
        "启动后会自动下载（约 2 GB），或先运行 download 命令；或把模型文件夹放入 models/。",
        "It is downloaded at the start (about 2 GB), or by the download command; or put its folder into models/.",
    ),
    "doctor.remedy.model_offline": (
        "--offline 不允许下载：请把模型文件夹放入 models/。",
        "--offline forbids the download: put its folder into models/.",
    ),
    "doctor.remedy.reinstall": (
        "请重新获取本程序的完整文件。",
        "Get the program's files again; these are part of it.",
    ),
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
    "error.cannot_read": ("无法打开 {name}：{problem}", "Cannot open {name}: {problem}"),
    "error.cannot_read.hint": ("请检查路径和权限。", "Check the path and its permissions."),
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
        "More than {limit_per_minute} recognitions were asked for within a minute.",
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
    "error.device_lost": (
        "{device} 在计算时失去响应，正在重新加载模型。",
        "{device} failed while it worked; the model is being loaded again.",
    ),
    "error.device_lost.hint": (
        "请在 {retry_after_s} 秒后重试；若反复出现，请重启程序并检查显卡驱动。",
        "Try again in {retry_after_s} s; if it happens again, restart the program and check the "
        "driver.",
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
    "advice.read_the_parts": (
        "多句话情感不同，一个整体标签难以概括：请看逐句结果。",
        "Several sentences with different emotions: one label does not fit them; read them one by one.",
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
        "时长偏长：一个整体标签难以概括；帧级粒度可显示情感的变化。",
        "It is long for a single label; frame granularity shows how the emotion moves.",
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
    # --- robustness test --------------------------------------------------------------------------
    "robustness.fan": ("空调类稳态噪声", "steady noise (air conditioner)"),
    "robustness.babble": ("多人说话噪声", "babble (several speakers)"),
    "robustness.title": ("抗噪测试", "Robustness test"),
    "robustness.plot": (
        "“{emotion}”的得分随噪声增大的变化",
        "Score of “{emotion}” as the noise grows",
    ),
    "robustness.axis": (
        "信噪比 (dB)，越往右噪声越大；下方为各级领先的情感",
        "Signal-to-noise ratio (dB), noisier to the right; below, who leads",
    ),
    "robustness.unstable": ("低于 10\u00a0dB：不稳定", "below 10\u00a0dB: unstable"),
    "robustness.note": (
        "折线图：“{emotion}”的得分在干净录音中为 {clean}，在 0 dB 稳态噪声中为 {fan}，在 0 dB 人声噪声中为 {babble}。",
        "Line chart: the score of “{emotion}” is {clean} in the clean clip, {fan} in steady noise at 0 dB and {babble} in babble at 0 dB.",
    ),
    "robustness.fan.short": ("稳态噪声", "Steady noise"),
    "robustness.babble.short": ("人声噪声", "Babble"),
    "robustness.noise": ("{kind} {snr_db:.0f}\u00a0dB", "{kind} {snr_db:.0f}\u00a0dB"),
    "robustness.clean": ("原始录音", "Clean clip"),
    "robustness.mp3_128": ("MP3 128 kbit/s", "MP3 128 kbit/s"),
    "robustness.mp3_64": ("MP3 64 kbit/s", "MP3 64 kbit/s"),
    "robustness.aac_64": ("AAC 64 kbit/s", "AAC 64 kbit/s"),
    "robustness.opus_24": ("Opus 24 kbit/s", "Opus 24 kbit/s"),
    "robustness.telephone": ("电话 8 kHz", "Telephone 8 kHz"),
    "robustness.resampled_8k": ("重采样到 8 kHz", "Resampled to 8 kHz"),
    "robustness.column.condition": ("条件", "Condition"),
    "robustness.column.leader": ("领先情感", "Leader"),
    "robustness.column.score": ("得分", "Score"),
    "robustness.column.change": ("“{emotion}”变化（百分点）", "“{emotion}”, points"),
    "robustness.flip": ("改变", "changed"),
    "robustness.missing": (
        "未测试：此 FFmpeg 没有该编码器",
        "not tested: this build of FFmpeg lacks the encoder",
    ),
    "robustness.codecs_hold": (
        "压缩、电话与重采样：结果都不变。",
        "Compression, telephone and resampling: the answer holds.",
    ),
    "robustness.codecs_flip": ("使结果改变的编码：{names}。", "The answer changes with {names}."),
    "robustness.neutral": (
        "低于 10 dB 时“中性”的得分：稳态噪声 {fan}，人声噪声 {babble} 个百分点。",
        "“Neutral” below 10 dB: {fan} points in steady noise, {babble} in babble.",
    ),
    "robustness.first_part": (
        "只测试了前 {seconds:.0f} 秒。",
        "Only the first {seconds:.0f} s were tested.",
    ),
    "robustness.noises": (
        "人声噪声由这段录音本身叠加而成；同样的录音得到同样的数字。",
        "The babble is made from the clip itself; the same clip gives the same figures.",
    ),
    "robustness.flipped": ("结果改变", "the answer changes"),
    "robustness.flips_at": (
        "{kind}：信噪比降到 {snr_db:.0f} dB 时结果改变。",
        "{kind}: the answer changes at {snr_db:.0f} dB.",
    ),
    "robustness.holds": (
        "{kind}：直到 0 dB 结果都不变。",
        "{kind}: the answer holds down to 0 dB.",
    ),
}
