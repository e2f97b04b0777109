"""Chat templates: what they may say, and what they may not do."""

import datetime
import re
import time

import pytest

from models.chat import ChatTemplate, Limits

TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "<b> & é"}]
TIGHT = Limits(seconds=1, characters=100_000, memory=2**28)
NEST = "{% for a in range(99999) %}" * 4 + "{% endfor %}" * 4


def render(source, *, talk=TALK, limits=None, **options):
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    return ChatTemplate(source, tokens, limits or Limits()).render([talk], **options)[0]


def test_messages_tokens_and_the_opening_of_a_turn():
    source = """{{ bos_token }}
{%- for m in messages %}
    {%- if m['role'] == 'user' %}[{{ m.content | trim }}]{% else %}{{ m.content + eos_token }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}A:{% endif %}"""
    assert render(source) == "<s>[hi]<b> & é</s>"
    assert render(source, add_generation_prompt=True) == "<s>[hi]<b> & é</s>A:"


CLOSED = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content@ }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize(
    ("trim", "words", "text"),
    [
        ("", "So far ", "<user>hi</s><assistant>So far "),
        (" | trim", " So far ", "<user>hi</s><assistant>So far"),
        ("", "", "<user>hi</s><assistant>"),
        ("", [{"type": "text", "text": "A "}, {"type": "text", "text": "B"}],
         "<user>hi</s><assistant>A \nB"),
    ],
)  # fmt: skip
def test_the_assistants_last_words_are_gone_on_with(trim, words, text):
    """No end is put after them, and other conversations are opened as ever."""
    template = ChatTemplate(CLOSED.replace("@", trim), {})
    user = {"role": "user", "content": "hi"}
    talks = [[user], [user, {"role": "assistant", "content": words}], [user]]
    found = template.opened(talks)
    assert found[0] == found[2] == "<user>hi</s><assistant>"
    assert found[1] == text
    assert talks[1][1]["content"] == words


def test_what_cannot_be_gone_on_with_is_refused():
    talk = [{"role": "assistant", "content": "one two"}]
    for source in ("{{ messages[0].role }}", "{{ messages[0].content[4:] }}"):
        with pytest.raises(ValueError, match="leaves out some of the assistant's last words"):
            ChatTemplate(source, {}).opened([talk])
    with pytest.raises(ValueError, match="has no text to go on with"):
        ChatTemplate("{{ messages }}", {}).opened([[{"role": "assistant", "content": None}]])


def test_a_template_is_told_what_it_reads():
    template = ChatTemplate("{% if enable_thinking is false %}no{% else %}yes{% endif %}", {})
    talk = [{"role": "user", "content": "hi"}]
    assert [template.opened([talk], enable_thinking=x)[0] for x in (True, False)] == ["yes", "no"]
    with pytest.raises(ValueError, match="thinking=True: the chat template does not read thinking"):
        template.opened([talk], thinking=True)


PARTS = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
READING = (
    "{% for m in messages %}{% if m.content is string %}<{{ m.content }}>{% else %}"
    "<{% for p in m.content %}{{ p.text }}{% if not loop.last %}|{% endif %}{% endfor %}>"
    "{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (READING, "<one|two><hi>"),
        ("{% for m in messages %}<{{ m.content }}>{% endfor %}", "<one\ntwo><hi>"),
        ("{% for m in messages %}<{{ m.content + '' }}>{% endfor %}", "<one\ntwo><hi>"),
        ("{% for m in messages %}<{{ m['content'] | trim }}>{% endfor %}", "<one\ntwo><hi>"),
    ],
)
def test_a_content_may_be_a_list_of_texts(source, text):
    """Gone through by the templates that do, joined for the others."""
    talk = [{"role": "user", "content": PARTS}, {"role": "user", "content": "hi"}]
    assert render(source, talk=talk) == text
    assert talk[0]["content"] is PARTS


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        ({"type": "image_url", "image_url": {"url": "x"}}, "'image_url'"),
        ({"type": "text"}, "'text'"),
        ({"type": "text", "text": 3}, "'text'"),
        ("text", "'str'"),
        (None, "'NoneType'"),
    ],
)
def test_parts_that_are_no_text_are_refused(part, shown):
    with pytest.raises(ValueError, match=rf"messages\[0\]: a part of its content is {shown}"):
        render(READING, talk=[{"role": "user", "content": [*PARTS, part]}])


def test_one_process_serves_a_template_and_what_ended_it_harms_no_later_call():
    template = ChatTemplate(
        "{% if messages[0].content == 'long' %}" + NEST + "{% endif %}"
        "{% if messages[0].content == 'large' %}{{ 'a' * 10**11 }}{% endif %}"
        "{{ strftime_now('%d') }}{{ messages[0].content }}{{ missing_function() if broken }}",
        {},
        TIGHT,
    )

    def said(words, **variables):
        day = datetime.date(2024, 7, len(words))
        return template.render([[{"role": "user", "content": words}]], today=day, **variables)[0]

    assert said("one") == "03one" and said("four") == "04four"
    first = template._child.process
    with pytest.raises(ValueError, match="missing_function"):
        said("one", broken=True)
    assert said("one") == "03one" and template._child.process is first
    for words, message in (("long", "not done after"), ("large", "needs more than")):
        with pytest.raises(ValueError, match=message):
            said(words)
        assert said("one") == "03one"
    assert template._child.process is not first


def test_many_conversations_at_once():
    template = ChatTemplate("{{ messages | length }}{{ messages[0].content }}", {})
    talks = [[{"content": f"{i}"}] * (i + 1) for i in range(3)]
    assert template.render(talks) == ["10", "21", "32"]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ strftime_now('%d %b %Y') }}", "26 Jul 2024"),
        ("{{ messages[1] | tojson }}", '{"role": "assistant", "content": "<b> & é"}'),
        ("{{ {'a': [1]} | tojson(indent=1) }}", '{\n "a": [\n  1\n ]\n}'),
        ("{% for m in messages %}{% if loop.last %}{% break %}{% endif %}x{% endfor %}", "x"),
        ("a{% generation %}\nb{%- endgeneration -%}\n c", "abc"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
         "{% endfor %}{{ ns.n }}", "2"),
        ("{{ dict(a=1).a }}{{ tools is none }}{{ mode }}", "1TrueX"),
        ("{% if messages %}\n  yes\n{% endif %}\n", "  yes\n"),
        ("{{ messages[0].get('name', 'nobody') }}", "nobody"),
    ],
)  # fmt: skip
def test_what_published_templates_rely_on(source, text):
    assert render(source, today=datetime.date(2024, 7, 26), mode="X") == text


def test_the_template_may_refuse():
    with pytest.raises(ValueError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ messages.append(1) }}",
        "{% set messages[0].content = 1 %}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os }}",
        "{{ missing.field }}",
        "{% if %}",
        "{{ 1 + 'a' }}",
    ],
)
def test_attacks_and_mistakes_are_refused(source):
    with pytest.raises(ValueError, match="chat template: "):
        render(source)


@pytest.mark.parametrize(
    "expression",
    [
        "messages.__class__",
        "messages | attr('__class__') | attr('__base__')",
        "'{0.__class__.__init__}'.format(messages)",
        "('' | attr('format')).__globals__",
        "raise_exception.__globals__",
        "namespace.mro",
    ],
)
def test_attributes_that_would_lead_out_render_as_nothing(expression):
    assert render("[{{ " + expression + " }}]") == "[]"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (NEST, "not done after"),
        ("{{ 9**(9**9) }}", "not done after|needs more than"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ 'a' * 10**11 }}", "needs more than"),
        ("{{ messages * 10**9 }}", "needs more than"),
        ("{{ 'a' * 10**6 }}", "more than 100000 characters"),
        ("{% for i in range(99999) %}{{ 'ab' }}{% endfor %}", "more than 100000 characters"),
    ],
)
def test_time_memory_and_output_are_limited(source, message):
    started = time.monotonic()
    with pytest.raises(ValueError, match=message):
        render(source, limits=TIGHT)
    assert time.monotonic() - started < 60


def test_the_process_cannot_open_files_or_start_others(tmp_path):
    """The second wall, for what breaks the sandbox: run its locks on code of our own."""
    import subprocess
    import sys

    from models.chat import WORKER

    target = tmp_path / "file"
    code = f"""
import sys; sys.path.insert(0, {str(WORKER.parent)!r})
import os, socket, child_limits
child_limits.give_up(2**30, 5)
for attempt in (
    lambda: open({str(target)!r}, "w"),
    lambda: open("/etc/passwd"),
    lambda: socket.socket(),
    lambda: os.posix_spawn("/bin/true", ["true"], {{}}) and os.wait()[1] and 1 / 0,
    lambda: bytearray(2**31),
):
    try:
        result = attempt()
        print("allowed" if result is not None else "refused")
    except (OSError, MemoryError, ZeroDivisionError):
        print("refused")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["refused"] * 5
    assert not target.exists()


def test_second_bos():
    with pytest.raises(ValueError, match=r"second '<s>'.*remove one"):
        render("{{ bos_token }}{{ messages[0].content }}", talk=[{"content": "<s>hi"}])
    # A new BOS for every turn is how some families are trained.
    assert render("{% for m in messages %}<s>{{ m.role }}{% endfor %}") == "<s>user<s>assistant"


def test_what_is_no_data_is_refused():
    with pytest.raises(ValueError, match="no plain JSON data"):
        render("x", talk=[{"content": object()}])
    with pytest.raises(ValueError, match="1000001 characters"):
        ChatTemplate(" " * 1_000_001, {})


# Every filter that jinja2 has, with something to do; `random` would not say the same twice.
FILTERS = r"""
    -1|abs ; 'x'|attr('y') ; [1,2,3]|batch(2)|list ; 'ab'|capitalize ; 'a'|center(5) ; [1]|count
    none|d(1) ; {'b':1,'a':2}|dictsort ; '<'|e ; 1000000|filesizeformat ; [1]|first ; '1.5'|float
    '<'|forceescape ; '%s'|format(1) ; [{'a':1}]|groupby('a')|list ; 'a\nb'|indent ; '3'|int
    {'a':1}|items|list ; [1,2]|join ; [1]|last ; 'a'|length ; 'ab'|list ; 'A'|lower
    [1]|map('string')|list ; [1]|max ; [1]|min ; {'a':[1]}|pprint ; [1]|reject('odd')|list
    [{'a':0}]|rejectattr('a')|list ; 'a'|replace('a','b') ; 'ab'|reverse ; 1.5|round ; 'a'|safe
    [1]|select('odd')|list ; [{'a':1}]|selectattr('a')|list ; [1,2]|slice(2)|list ; [2,1]|sort
    1|string ; '<p>a &amp; &eacute;</p>'|striptags ; [1]|sum ; 'ab'|title ; {'a':1}|tojson
    ' a '|trim ; 'abc def'|truncate(5) ; [1,1]|unique|list ; 'a'|upper ; 'a b'|urlencode
    'see http://example.org now'|urlize ; 'a b'|wordcount ; 'a b c'|wordwrap(3) ; {'a':'b'}|xmlattr
    '<'|escape ; ''|default(1)
"""


def test_every_filter_works_behind_the_walls():
    """Each as it works where it may import what it likes."""
    from models.chat_worker import _environment

    calls = [call.strip() for line in FILTERS.splitlines() for call in line.split(" ; ")]
    source = "\n".join(f"{{{{ {call} }}}}" for call in calls if call)
    free = _environment(datetime.datetime(2025, 1, 2))
    assert free.filters.keys() - set(re.findall(r"\|(\w+)", source)) == {"random"}
    assert render(source) == free.from_string(source).render(messages=[])
