import numpy as np
import pytest

from bench.errors import ConfigError, DataError
from bench.types import Catalogue
from llmrec.lm import smollm2
from llmrec.lm.scratch import CompactTokenizer, tiny_tokenizer
from llmrec.prompt import (
    DOMAINS,
    Prompter,
    Style,
    TooLong,
    all_texts,
    bos_of,
    head_text,
    prompt_text,
)
from llmrec.trie import fingerprint, for_titles

TITLES = ("", "Red ball", 'The "best" kite, 2nd ed.', "A", "Été à Paris", "", "Tea (50 bags)")
TOYS = Catalogue(TITLES, "toy")


def joint(tokenizer, history, domain="toy"):
    text = prompt_text([TITLES[item] for item in history], domain)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_the_text_is_the_papers():
    assert prompt_text(["A", "B"], "book") == (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request. \n\n"
        "### Instruction:\nGiven a list of books the user has read before, please recommend a new "
        "book that the user likes to the user.\n\n"
        '### Input:\nThe user has read the following books before: "A", "B"\n \n\n### Response:\n'
    )


@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("history", [[1], [2, 3], [5, 4, 6, 2]])
def test_pieces_equal_the_tokens_of_the_whole_text(history, bos):
    tokenizer = tiny_tokenizer(bos=bos)
    prompt = Prompter(TOYS, tokenizer).prompt(history)
    assert prompt.ids.tolist() == [0] * bos + joint(tokenizer, history)
    assert not prompt.slots.any()


@pytest.mark.parametrize("bos", [False, True])
def test_prompt_and_answer_are_a_path_of_the_trie(bos):
    tokenizer = tiny_tokenizer(bos=bos)
    trie = for_titles(TITLES, tokenizer)
    answer = trie.answer[int(trie.leaf_of_item_N[2])]
    assert tokenizer.decode(answer[:-1]) == f'"{TITLES[2]}"'
    prompt = Prompter(TOYS, tokenizer).prompt([1, 3])
    text = prompt_text(["Red ball", "A"], "toy") + f'"{TITLES[2]}"'
    assert tokenizer.decode([*prompt.ids[bos:], *answer[:-1]]) == text


def test_bos_is_what_the_tokenizer_does_not_what_it_has():
    assert bos_of(tiny_tokenizer(bos=False)) == [] and bos_of(tiny_tokenizer(bos=True)) == [0]


def test_oldest_titles_go_first_and_the_answer_keeps_its_room():
    tokenizer = tiny_tokenizer()
    whole = Prompter(TOYS, tokenizer)
    history = [1, 2, 4, 6]
    length = len(whole.prompt(history))
    short = Prompter(TOYS, tokenizer, cutoff=length - 1 + 7, answer_budget=7)
    cut = short.prompt(history)
    assert cut.dropped == 1
    np.testing.assert_array_equal(cut.ids, whole.prompt(history[1:]).ids)
    assert short.prompt(history, answer=6).dropped == 0
    with pytest.raises(TooLong, match="one title"):
        short.prompt(history, answer=length)


@pytest.mark.parametrize("style", [Style(), Style(item_slots=True)])
def test_a_title_longer_than_the_room_is_shown_up_to_where_there_is_room(style):
    tokenizer = tiny_tokenizer()
    long = Catalogue(("", "short", "word " * 300), "toy")
    prompter = Prompter(long, tokenizer, cutoff=400, answer_budget=50, style=style)
    prompt = prompter.prompt([1, 2])
    assert (len(prompt), prompt.dropped) == (350, 1)
    assert prompt.slots[prompt.slots > 0].tolist() == ([2] if style.item_slots else [])
    text = tokenizer.decode(prompt.ids[prompt.slots == 0])
    assert "word word" in text and text.endswith('"\n \n\n### Response:\n')
    with pytest.raises(TooLong, match="one title"):
        prompter.prompt([2], answer=400)


def test_control_tokens_in_titles_are_plain_text_to_prompt_and_trie():
    titles = ("", "Red ball", "a</s>b", "</s>", "<s>x", "<s>")
    tokenizer = tiny_tokenizer()
    assert tokenizer("<s></s>", add_special_tokens=False)["input_ids"] == [0, 1]
    control = {0, 1} - {tokenizer.eos_token_id}
    trie = for_titles(titles, tokenizer)
    for item, title in enumerate(titles[1:], 1):
        answer = trie.answer[trie.leaf_of_item_N[item]].tolist()
        assert not control & {*answer} and answer.index(tokenizer.eos_token_id) == len(answer) - 1
        assert tokenizer.decode(answer[:-1]) == f'"{title}"'
        prompt = Prompter(Catalogue(titles, "toy"), tokenizer).prompt([item])
        assert not {0, 1} & {*prompt.ids.tolist()}
    kept = CompactTokenizer.of(tokenizer, all_texts(Catalogue(titles, "toy")))
    assert for_titles(titles, kept).n_leaves == 5


def test_plain_titles_have_the_tokens_and_the_fingerprint_they_always_had():
    tokenizer = tiny_tokenizer()
    before = fingerprint(TITLES, tokenizer)
    trie = for_titles(TITLES, tokenizer)
    assert trie.fingerprint == before == fingerprint(TITLES, tokenizer)
    plain = tokenizer([f'"{title}"' for title in TITLES[1:]], add_special_tokens=False)["input_ids"]
    found = [trie.answer[trie.leaf_of_item_N[item]].tolist()[:-1] for item in range(1, len(TITLES))]
    assert found == plain


def test_the_released_code_never_shortens_a_prompt():
    tokenizer = tiny_tokenizer()
    prompter = Prompter(TOYS, tokenizer, cutoff=8, style=Style(fit_history=False))
    assert prompter.prompt([1, 2]).dropped == 0


def test_extra_space_only_at_inference_and_only_when_asked():
    tokenizer = tiny_tokenizer()
    plain, released = (
        Prompter(TOYS, tokenizer, style=Style(infer_extra_space=extra)) for extra in (False, True)
    )
    trained = plain.prompt([1], training=True).ids.tolist()
    assert plain.prompt([1]).ids.tolist() == trained
    assert released.prompt([1], training=True).ids.tolist() == trained
    seen = tokenizer.decode(released.prompt([1]).ids)
    assert seen == prompt_text(["Red ball"], "toy").replace("request. ", "request.  ")


def test_slots_stand_behind_their_titles():
    tokenizer = tiny_tokenizer()
    prompter = Prompter(TOYS, tokenizer, style=Style(item_slots=True, user_slot=True))
    prompt = prompter.prompt([4, 1, 4])
    places = np.flatnonzero(prompt.slots)
    assert prompt.slots[places].tolist() == [-1, 4, 1, 4]
    assert (prompt.ids[places] == tokenizer.eos_token_id).all()
    parts = np.split(prompt.ids, places)
    texts = [tokenizer.decode(part[1:] if i else part) for i, part in enumerate(parts)]
    assert texts[0] == head_text("toy")[0]
    assert texts[1].endswith('"Été à Paris"') and texts[2] == ', "Red ball"'
    assert texts[-1] == "\n \n\n### Response:\n"
    assert prompter.shared == places[0]


def test_every_prompt_begins_with_the_shared_tokens():
    for style in (Style(), Style(item_slots=True), Style(user_slot=True, item_slots=True)):
        prompter = Prompter(TOYS, tiny_tokenizer(bos=True), style=style)
        one, other = (prompter.prompt(h, training=True) for h in ([1], [6, 2]))
        shared = prompter.shared
        assert shared > 10
        np.testing.assert_array_equal(one.ids[:shared], other.ids[:shared])
        assert not one.slots[:shared].any()


def test_a_compact_vocabulary_covers_every_prompt():
    whole = tiny_tokenizer()
    compact = CompactTokenizer.of(whole, all_texts(TOYS))
    assert len(compact) < len(whole)
    for style in (Style(), Style(item_slots=True, user_slot=True), Style(infer_extra_space=True)):
        ids = Prompter(TOYS, compact, style=style).prompt([1, 2, 4, 5, 6]).ids
        old = Prompter(TOYS, whole, style=style).prompt([1, 2, 4, 5, 6]).ids
        np.testing.assert_array_equal(compact.kept_V[ids], old)
    assert compact.decode(compact("Red ball")["input_ids"]) == "Red ball"
    assert for_titles(TITLES, compact).n_leaves == for_titles(TITLES, whole).n_leaves
    with pytest.raises(ValueError, match="no token for"):
        compact("漢")


@pytest.mark.parametrize("domain", DOMAINS)
def test_every_domain_has_words(domain):
    assert "{" not in prompt_text(["A"], domain)


def test_bad_input_is_named():
    tokenizer = tiny_tokenizer()
    with pytest.raises(ConfigError, match="known: toy, book"):
        Prompter(Catalogue(TITLES, "cars"), tokenizer)
    with pytest.raises(DataError, match="title of item 2"):
        Prompter(Catalogue(("", "A", "two\nlines"), "toy"), tokenizer)
    with pytest.raises(DataError, match="response marker"):
        Prompter(Catalogue(("", "### Response: x"), "toy"), tokenizer)
    prompter = Prompter(TOYS, tokenizer)
    with pytest.raises(DataError, match=r"1\.\.6"):
        prompter.prompt([1, 7])
    with pytest.raises(DataError, match="empty history"):
        prompter.prompt([])


@pytest.mark.slow
@pytest.mark.skipif(not smollm2.is_here(), reason="the embedded model is not in the cache")
def test_pieces_equal_the_whole_text_on_published_rows():
    from bench.errors import BenchError
    from bench.registry import datasets
    from llmrec.lm.backbone import embedded_tokenizer

    try:
        book = datasets.get("book")(None)
    except BenchError as fault:
        pytest.skip(str(fault))
    tokenizer = embedded_tokenizer()
    prompter = Prompter(book.catalogue, tokenizer)
    exam = book.split.test.sample(300)
    for history, target in zip(exam.queries.history, exam.target_Q, strict=True):
        text = prompt_text([book.catalogue.titles[item] for item in history], "book")
        answer = f'"{book.catalogue.titles[target]}"'
        ids = tokenizer(text + answer, add_special_tokens=False)["input_ids"]
        own = tokenizer(answer, add_special_tokens=False)["input_ids"]
        assert ids == [*prompter.prompt(history).ids, *own]
