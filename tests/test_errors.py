"""One hierarchy: every error has a status, words in both languages, and survives a process."""

from __future__ import annotations

import pickle
import string

from emotion2vec_ui import errors, texts


def subclasses(cls: type) -> list[type]:
    return [cls, *(deep for sub in cls.__subclasses__() for deep in subclasses(sub))]


ALL = subclasses(errors.EmotionError)


def test_every_error_has_words_and_a_status(subtests):
    for cls in ALL:
        with subtests.test(error=cls.__name__):
            assert 400 <= cls.status < 600
            assert texts.has(f"error.{cls.code}") and texts.has(f"error.{cls.code}.hint")


def test_codes_are_unique():
    assert len({cls.code for cls in ALL}) == len(ALL)


def test_every_error_is_drawn_in_the_docstring():
    for cls in ALL:
        assert cls.__name__ in errors.__doc__


def test_statuses_are_the_contracts():
    table = {
        errors.BadField: 400,
        errors.MissingAudio: 400,
        errors.Unauthorized: 401,
        errors.ForeignOrigin: 403,
        errors.UploadTooLarge: 413,
        errors.AudioTooLong: 413,
        errors.AudioDecodeError: 415,
        errors.AudioTooShort: 422,
        errors.AudioEmpty: 422,
        errors.AudioNotFinite: 422,
        errors.AudioSilent: 422,
        errors.QueueFull: 503,
        errors.ModelNotReady: 503,
        errors.DiskFull: 507,
        errors.EmotionError: 500,
    }
    assert {cls: cls.status for cls in table} == table


def test_an_error_crosses_processes_with_its_facts():
    error = errors.AudioTooLong(duration_s=4000.0, limit_s=3600.0)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is errors.AudioTooLong and copy.facts == error.facts
    assert copy.to_dict("zh") == error.to_dict("zh")


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_every_catalogue_says_the_same_facts(subtests):
    for lang in texts.languages():
        with subtests.test(lang=lang):
            english, other = texts.catalogue("en"), texts.catalogue(lang)
            assert other.keys() == english.keys()
            assert not [key for key, words in other.items() if not words]
            assert {k: fields(w) for k, w in other.items()} == {
                k: fields(w) for k, w in english.items()
            }


def test_the_language_is_negotiated(subtests):
    for header, language in [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9,zh;q=0.1", "en"),
        ("de,fr;q=0.5", "en"),
        ("", "en"),
        ("zh-TW", "zh"),
        ("en;q=0.2, zh;q=0.7", "zh"),
        ("zh;q=oops", "zh"),
    ]:
        with subtests.test(header=header):
            assert texts.negotiate(header) == language


def test_a_foreseen_error_stays_itself_and_any_other_has_an_id_in_the_log(caplog):
    foreseen = errors.QueueFull(waiting=1, limit=1, retry_after_s=5)
    assert errors.as_known(foreseen, "the page") is foreseen
    assert caplog.text == ""
    unforeseen = errors.as_known(ZeroDivisionError("secret"), "the page")
    assert unforeseen.code == "internal" and "secret" not in str(unforeseen)
    assert unforeseen.facts["error_id"] in caplog.text and "ZeroDivisionError" in caplog.text


def test_a_tuple_of_phrases_is_joined_as_the_language_joins():
    names = tuple(texts.Phrase(f"emotion.{one}") for one in ("sad", "angry", "happy"))
    key = "robustness.codecs_flip"
    assert "Sad, Angry and Happy" in texts.text(key, "en", names=names)
    assert "悲伤、愤怒和快乐" in texts.text(key, "zh", names=names)
    assert "with Sad." in texts.text(key, "en", names=names[:1])


def test_callers_see_no_folders_of_this_machine():
    place = "/home/somebody/.cache/modelscope"
    problem = texts.Phrase("download.no_room", needed_mb=2000.0, free_mb=10.0, path=place)
    error = errors.ModelDownloadError(model="iic/emotion2vec_plus_large", problem=problem)
    assert place in error.message()
    told = error.to_dict("en")["message"]
    assert "/home" not in told and "modelscope" in told
