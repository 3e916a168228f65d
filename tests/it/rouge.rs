//! ROUGE against `rouge_score`. The expected scores are in `tests/golden/rouge.json`, which `tests/golden/rouge.py`
//! printed; that program makes the same texts from the same words and random numbers.

use cope_llama::rouge::Rouge;

/// Words to make texts of; many test how a word is split or lower-cased.
const WORDS: [&str; 37] = [
    "the",
    "The",
    "a",
    "of",
    "wine",
    "Wine",
    "cat",
    "it's",
    "don't",
    "3.5",
    "90",
    "2,000",
    "x_1",
    "e-mail",
    "naïve",
    "café",
    "straße",
    "İstanbul",
    "\u{212a}elvin",
    "ǅ",
    "ﬁne",
    "ſun",
    "ΣΑΣ",
    "привет",
    "数学",
    "日本語",
    "１２",
    "½",
    "🙂",
    "👩‍🔬",
    "a\u{301}b",
    "\u{200b}",
    "—",
    "…",
    "\"",
    "(",
    "E=mc²",
];

/// Characters between words; an empty one joins two words.
const SEPARATORS: [&str; 10] = [
    " ", " ", " ", " ", "\n", "\t", ", ", "", "\u{a0}", "\u{2028}",
];

/// Random numbers by `SplitMix64`, which `rouge.py` computes too.
struct Draws(u64);

impl Draws {
    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    /// A text of no words, of a thousand or more, or mostly of 1 to 60.
    fn text(&mut self) -> String {
        let n = match self.below(200) {
            0..5 => 0,
            5 => 1000 + self.below(3000),
            _ => 1 + self.below(60),
        };
        let mut text = String::new();
        for _ in 0..n {
            text += WORDS[self.below(WORDS.len())];
            text += SEPARATORS[self.below(SEPARATORS.len())];
        }
        text
    }
}

#[test]
fn scores_agree_with_rouge_score() {
    let golden: Vec<[f64; 2]> = serde_json::from_str(include_str!("../golden/rouge.json")).unwrap();
    assert_eq!(golden.len(), 2000);
    let mut draws = Draws(2004);
    for (number, [rouge_1, rouge_l]) in golden.into_iter().enumerate() {
        let (prediction, reference) = (draws.text(), draws.text());
        let ours = Rouge::new(&prediction, &reference);
        let error = (ours.rouge_1 - rouge_1)
            .abs()
            .max((ours.rouge_l - rouge_l).abs());
        assert!(
            error < 1e-12,
            "pair {number}: {ours:?} instead of {rouge_1}, {rouge_l}"
        );
    }
}
