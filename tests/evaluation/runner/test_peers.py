import json

from evaluation.runner.peers import Library


def executable(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_library_without_an_answer_is_stopped_and_started_again(tmp_path):
    hello = json.dumps({"version": "1", "attacks": ["pgd"]})
    library = Library("art", executable(tmp_path / "python", f"echo '{hello}'; exec sleep 60"), "module", (), 1)
    assert library.about["version"] == "1"
    process = library.process
    assert library.ask(attack="pgd") == {"error": "no result in 1 s"}
    assert process.poll() is not None
    assert library.ask(attack="pgd") == {"error": "no result in 1 s"}, "it was started again"
    library.stop()


def test_library_that_dies_tells_its_last_words(tmp_path):
    library = Library("art", executable(tmp_path / "python", "echo out of memory >&2; sleep 0.2"), "module", (), 5)
    assert library.about == {"error": "its process ended: out of memory"}
    hello = json.dumps({"version": "1", "attacks": ["pgd"]})
    library = Library("art", executable(tmp_path / "python", f"echo '{hello}'; echo full >&2"), "module", (), 5)
    library.process.wait()
    assert library.ask(attack="pgd") == {"error": "its process ended: full"}
    assert "missing" in Library("art", tmp_path / "nothing", "module", (), 5).about
