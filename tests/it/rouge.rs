//! ROUGE beside `rouge_score`: the numbers are `tests/golden/rouge.json`, and the program that printed them is
//! `tests/golden/rouge.py`, beside it.

use cope_llama::rouge::Rouge;

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

const SEPARATORS: [&str; 10] = [
    " ", " ", " ", " ", "\n", "\t", ", ", "", "\u{a0}", "\u{2028}",
];

/// Splitmix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

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
fn scores_are_those_of_rouge_score() {
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
