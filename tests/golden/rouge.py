"""Golden ROUGE scores, computed by rouge_score without its stemmer.

    pip install rouge-score==0.1.2
    python tests/golden/rouge.py > tests/golden/rouge.json

Prints [[ROUGE-1, ROUGE-L], …] (F1) for 2,000 pairs of texts that tests/it/rouge.rs generates too, from words and
separators that splitmix64 draws. Many words are not ASCII; one text in forty is empty, and one in two hundred has
thousands of words.
"""

import json

from rouge_score.rouge_scorer import RougeScorer

WORDS = [
    "the", "The", "a", "of", "wine", "Wine", "cat", "it's", "don't", "3.5", "90", "2,000", "x_1", "e-mail",
    "naïve", "café", "straße", "İstanbul", "\u212aelvin", "ǅ", "ﬁne", "ſun", "ΣΑΣ", "привет", "数学", "日本語", "１２", "½", "🙂", "👩‍🔬",
    "a\u0301b", "\u200b", "—", "…", "\"", "(", "E=mc²",
]
SEPARATORS = [" ", " ", " ", " ", "\n", "\t", ", ", "", "\u00a0", "\u2028"]
MASK = 2**64 - 1


class Draws:
    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % n


def text(draws):
    kind = draws.below(200)
    n = 0 if kind < 5 else 1000 + draws.below(3000) if kind == 5 else 1 + draws.below(60)
    return "".join(WORDS[draws.below(len(WORDS))] + SEPARATORS[draws.below(len(SEPARATORS))] for _ in range(n))


def main():
    scorer = RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    draws, scores = Draws(2004), []
    for _ in range(2000):
        prediction, reference = text(draws), text(draws)
        score = scorer.score(reference, prediction)
        scores.append([score["rouge1"].fmeasure, score["rougeL"].fmeasure])
    print("[\n" + ",\n".join(map(json.dumps, scores)) + "\n]")


main()
