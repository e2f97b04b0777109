"""The process in which a foreign tokenizer works; `models.walled_tokenizer` starts it by path.

    python -I tokenizer_worker.py LIMITS          # JSON: memory, seconds, characters, paths

A tokenizer.json is a program too: its normaliser may make a gigabyte of a letter, its patterns may
run for years, and either may end the process that they run in. This one has given up the rest:
memory and time are limited, and no file or socket can be opened.

Requests are lines of JSON, {"open": TEXT} first; answers are lines of JSON, {"error": ...} for
what the library refuses.
"""

import json
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from models.child_limits import give_up

del sys.path[0]  # nothing of ours hides a module that a library asks for

RATE = 100_000  # characters a second, far below that of any real tokenizer


def main() -> None:
    """Answer requests until no more come."""
    limits = json.loads(sys.argv[1])
    sys.path.extend(limits["paths"])
    import tokenizers
    from tokenizers import processors

    inner = None
    say = os.fdopen(os.dup(1), "w")
    give_up(limits["memory"])
    print(json.dumps({"ready": True}), file=say, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        # The default action of this signal ends the process, whatever it is busy with.
        signal.setitimer(signal.ITIMER_REAL, limits["seconds"] + len(line) / RATE)
        try:
            if "open" in request:
                inner = tokenizers.Tokenizer.from_str(request["open"])
                inner.no_padding()
                inner.no_truncation()
                if request["around"] is not None:
                    single, special = request["around"]
                    inner.post_processor = processors.TemplateProcessing(
                        single=single, special_tokens=[(token, index) for token, index in special]
                    )
                answer = {"out": inner.get_vocab(True)}
            elif inner is None:
                answer = {"missing": True}
            elif "text" in request:
                answer = {"out": inner.to_str()}
            else:
                answer = {"out": work(inner, request, limits["characters"])}
        except BaseException as error:  # a panic of the library is not even an Exception
            answer = {"error": f"{type(error).__name__}: {error}"[:1000]}
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(answer), file=say, flush=True)


def work(inner, request, most):
    """What `encode` and `decode` of the library give."""
    if "decode" in request:
        texts = inner.decode_batch(request["decode"], skip_special_tokens=request["skip_special"])
        if sum(map(len, texts)) > most:
            raise ValueError(f"it makes more than {most} characters of its tokens")
        return texts
    inner.encode_special_tokens = request["names_as_text"]
    found, total = [], 0
    for text in request["encode"]:
        encoding = inner.encode(text, add_special_tokens=request["add_special"])
        total += len(encoding.ids)
        if total > most:
            raise ValueError(f"it makes more than {most} tokens of its text")
        found.append(encoding.ids if request["what"] == "ids" else encoding.offsets)
    return found


if __name__ == "__main__":
    main()
