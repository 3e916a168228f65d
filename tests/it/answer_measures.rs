//! The measures and the texts of `benches/answers`: a bench has no test harness of its own.

#[path = "../../benches/answers/interval.rs"]
mod interval;
#[path = "../../benches/answers/loops.rs"]
mod loops;
#[path = "../../benches/answers/score.rs"]
mod score;
#[path = "../../benches/answers/setting.rs"]
mod setting;
#[path = "../../benches/answers/texts.rs"]
mod texts;

use std::collections::HashSet;

use cope_llama::decode::{Finish, Sampling};
use cope_llama::estimate::Estimate;
use cope_llama::llama::Token;
use cope_llama::train::calibrate::everyday;
use cope_llama::train::replay;

use interval::{mean, share};
use loops::{distinct_4, is_loop};
use score::{says_all, says_any};
use setting::{CANDIDATES, Setting};
use texts::{Item, Split, TextKind, items};

/// The prompts of all files in a split.
fn of_split(split: Split, limit: Option<usize>) -> anyhow::Result<Vec<Item>> {
    items(&TextKind::ALL, &[split], limit)
}

#[test]
fn no_prompt_is_one_that_calibration_or_replay_uses() {
    let questions = everyday::questions().unwrap();
    let used = questions.into_iter().map(|it| it.prompt);
    let replayed = replay::prompts().unwrap().into_iter().map(|it| it.prompt);
    let used: HashSet<String> = used.chain(replayed).collect();
    for split in [Split::Dev, Split::Test] {
        for item in of_split(split, None).unwrap() {
            assert!(!used.contains(&item.prompt), "{}", item.prompt);
        }
    }
}

/// Whether an answer of these tokens, without text, is a loop.
fn loops(tokens: &[Token]) -> bool {
    is_loop(tokens, "", Finish::Length)
}

#[test]
fn a_unit_that_comes_four_times_at_the_end_is_a_loop() {
    let repeated = |before: &[Token], unit: &[Token], length: usize| -> Vec<Token> {
        let unit = unit.iter().cycle().take(length);
        before.iter().chain(unit).copied().collect()
    };
    assert!(loops(&repeated(&[1, 2], &[7], 4)));
    assert!(!loops(&repeated(&[1, 2], &[7], 3)));
    assert!(loops(&repeated(&[9], &[4, 5, 6], 12)));
    assert!(!loops(&repeated(&[9], &[4, 5, 6], 11)));
    // Cut within the unit.
    assert!(loops(&repeated(&[9], &[4, 5, 6], 13)));
    let longest: Vec<Token> = (0..40).collect();
    assert!(loops(&repeated(&[100], &longest, 160)));
    let too_long: Vec<Token> = (0..41).collect();
    assert!(!loops(&repeated(&[100], &too_long, 164)));
    // A repetition in the middle does not count.
    assert!(!loops(&[7, 7, 7, 7, 8]));
    assert!(!loops(&[]));
}

#[test]
fn an_answer_most_of_whose_words_were_seen_before_is_a_loop() {
    let loops = |text: &str| is_loop(&[], text, Finish::EndOfTurn);
    // Eight words: five 4-grams, two of them distinct, so that three of five are repeats.
    assert!(loops("tick tock tick tock tick tock tick tock"));
    assert_eq!(
        distinct_4("tick tock tick tock tick tock tick tock"),
        Some(0.4)
    );
    // Seven words: four 4-grams, of which two are repeats.
    assert!(!loops("tick tock tick tock tick tock tick"));
    // The same sentence three times; then with the third one changed.
    let sentence = "The sea is a vast and mysterious place. ";
    assert!(loops(&sentence.repeat(3)));
    assert!(!loops(&format!(
        "{}The harbour, on the other hand, is small and known to all.",
        sentence.repeat(2)
    )));
    assert!(!loops(
        "Bring the drills back before Thursday, and then the chisels."
    ));
    assert!(!loops("Three words only"));
    assert_eq!(distinct_4("Three words only"), None);
    assert_eq!(distinct_4("one two three four five"), Some(1.0));
}

#[test]
fn an_answer_that_the_loop_guard_ended_is_a_loop() {
    assert!(is_loop(&[1, 2, 3], "some words", Finish::Loop));
    for finish in [Finish::EndOfTurn, Finish::Length, Finish::Stop] {
        assert!(!is_loop(&[1, 2, 3], "some words", finish), "{finish:?}");
    }
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn an_answer_is_right_if_it_says_one_accepted_spelling_as_a_whole_word() {
    let says = |text: &str, answers: &[&str]| says_any(text, &strings(answers));
    assert!(says("The capital of Italy is ROME.", &["Rome", "Roma"]));
    assert!(says("È Roma!", &["Rome", "Roma"]));
    assert!(!says("A romantic answer from Romeo", &["Rome", "Roma"]));
    assert!(says("Water is H₂O.", &["H2O", "H₂O"]));
    assert!(says("It boils at 100°C", &["100"]));
    assert!(!says("It boils at 1000 degrees", &["100"]));
    assert!(says("The capital is **Brasília**", &["Brasília"]));
    assert!(!says("", &["Rome"]));
}

#[test]
fn a_number_is_whole_with_a_unit_and_not_within_another_number() {
    let says = |text: &str| says_all(text, &strings(&["7"]));
    for right in ["7", "7.", "(7)", "7km", "day 7, then rest", "2+5=7"] {
        assert!(says(right), "{right}");
    }
    for wrong in ["17", "70", "7.5", "1,7", "7,000", "seven"] {
        assert!(!says(wrong), "{wrong}");
    }
}

#[test]
fn a_note_is_copied_if_all_its_facts_are_there_letter_by_letter() {
    let facts = strings(&["TP 1287", "06:45", "Okafor"]);
    assert!(says_all("TP 1287 at 06:45, says Okafor's note", &facts));
    assert!(!says_all("TP 1279 at 06:45, says Okafor", &facts));
    assert!(!says_all("tp 1287 at 06:45, says Okafor", &facts));
    assert!(!says_all("TP 1287 at 06:450, says Okafor", &facts));
    assert!(!says_all("TP 1287 at 06:45, says Okaforson", &facts));
    // The first place is part of another word, the second is not.
    assert!(says_all("Okaforson or Okafor: TP 1287, 06:45", &facts));
}

#[test]
fn names_of_settings_mean_what_they_say() {
    let options = |name: &str| name.parse::<Setting>().unwrap().options(64, 5);
    let greedy = options("greedy");
    assert!(greedy.sampling.takes_the_best());
    assert_eq!((greedy.no_repeat_ngram, greedy.loop_guard), (0, false));
    assert_eq!(greedy.n_predict, Some(64));
    let drawn = options("t0.7+no-repeat");
    let expected = Sampling {
        temperature: 0.7,
        min_p: 0.05,
        top_k: 0,
        top_p: 1.0,
        seed: 5,
        ..Sampling::default()
    };
    assert_eq!(drawn.sampling, expected);
    assert_eq!((drawn.no_repeat_ngram, drawn.loop_guard), (8, true));
    let other = options("t1+min-p0.1+no-repeat12");
    let expected = Sampling {
        temperature: 1.0,
        min_p: 0.1,
        ..expected
    };
    assert_eq!(other.sampling, expected);
    assert_eq!((other.no_repeat_ngram, other.loop_guard), (12, true));
    let guarded = options("greedy+guard");
    assert_eq!((guarded.no_repeat_ngram, guarded.loop_guard), (0, true));
    for name in CANDIDATES {
        let setting: Setting = name.parse().unwrap();
        assert_eq!(setting.name(), name);
        assert_eq!(setting.is_greedy(), name.starts_with("greedy"));
        assert_eq!(setting.no_repeat_ngram() > 0, name.contains("no-repeat"));
    }
    for (name, wrong) in [
        ("", ""),
        ("hot", "hot"),
        ("tx", "tx"),
        ("greedy+loops", "loops"),
        ("t0.7+no-repeatX", "no-repeatX"),
    ] {
        let error = name.parse::<Setting>().unwrap_err();
        assert_eq!(error, format!("{wrong} is no part of settings"));
    }
    let error = "t0.7+min-p2".parse::<Setting>().unwrap_err();
    assert!(error.contains("min-p"), "{error}");
}

fn assert_near(estimate: Option<Estimate>, expected: [f64; 3]) {
    let it = estimate.unwrap();
    for (value, expected) in [it.value, it.low, it.high].into_iter().zip(expected) {
        assert!((value - expected).abs() < 1e-3, "{it:?}");
    }
}

/// Wilson's intervals are those of R's `binom::binom.wilson`'s formula, computed by hand.
#[test]
fn a_share_has_wilsons_interval_over_prompts() {
    let answers = |n: usize, hits: usize| -> Vec<_> { (0..n).map(|i| (i, i < hits)).collect() };
    assert_near(share(&answers(30, 0)), [0.0, 0.0, 0.114]);
    assert_near(share(&answers(75, 4)), [0.0533, 0.0209, 0.1292]);
    assert_near(share(&answers(10, 10)), [1.0, 0.7225, 1.0]);
    assert_eq!(share(&[]), None);
    // Three answers to each of ten prompts that agree count as ten answers.
    let agreeing: Vec<_> = (0..30).map(|i| (i / 3, i < 15)).collect();
    assert_near(share(&agreeing), [0.5, 0.2366, 0.7634]);
    // If prompts do not matter, they count as thirty.
    let mixed: Vec<_> = (0..30).map(|i| (i / 3 % 5, i % 2 == 0)).collect();
    assert_near(share(&mixed), [0.5, 0.3315, 0.6685]);
}

#[test]
fn a_mean_varies_with_its_prompts() {
    // The means of the prompts are 1 and 3, with a standard error of 1.
    let values = [(0, 0.0), (0, 2.0), (1, 3.0), (1, 3.0)];
    assert_near(mean(&values), [2.0, 2.0 - 1.96, 2.0 + 1.96]);
    assert_near(mean(&[(4, 5.0)]), [5.0, 5.0, 5.0]);
    assert_eq!(mean(&[]), None);
}

#[test]
fn each_file_of_texts_is_split_into_halves_without_a_prompt_twice() {
    let mut prompts = HashSet::new();
    for split in [Split::Dev, Split::Test] {
        let items = of_split(split, None).unwrap();
        let n = |kind| items.iter().filter(|item| item.kind == kind).count();
        assert_eq!(TextKind::ALL.map(n), [50, 50, 25, 50]);
        prompts.extend(items.into_iter().map(|item| item.prompt));
    }
    assert_eq!(prompts.len(), 350);
}

#[test]
fn facts_are_in_their_note_and_answers_not_in_their_question() {
    for split in [Split::Dev, Split::Test] {
        for item in of_split(split, None).unwrap() {
            match item.kind {
                TextKind::Manner | TextKind::Everyday => assert!(item.wanted.is_empty()),
                TextKind::Notes => {
                    assert!(item.wanted.len() > 1, "{item:?}");
                    assert!(says_all(&item.prompt, &item.wanted), "{item:?}");
                }
                TextKind::Questions => {
                    assert!(!item.wanted.is_empty(), "{item:?}");
                    assert!(!says_any(&item.prompt, &item.wanted), "{item:?}");
                }
            }
        }
    }
}

#[test]
fn a_limit_takes_prompts_evenly_from_each_file() {
    let all = of_split(Split::Dev, None).unwrap();
    let some = of_split(Split::Dev, Some(2)).unwrap();
    let prompts = |kind: TextKind| -> Vec<&str> {
        let of_kind = some.iter().filter(|item| item.kind == kind);
        of_kind.map(|item| item.prompt.as_str()).collect()
    };
    for kind in TextKind::ALL {
        let of_kind: Vec<_> = all.iter().filter(|item| item.kind == kind).collect();
        let n = of_kind.len();
        let expected = [n.div_ceil(2) - 1, n - 1].map(|index| of_kind[index].prompt.as_str());
        assert_eq!(prompts(kind), expected, "{kind:?}");
    }
    assert_eq!(of_split(Split::Dev, Some(1000)).unwrap().len(), all.len());
}

#[test]
fn kinds_and_splits_can_be_named() {
    let questions = items(&[TextKind::Questions], &[Split::Dev, Split::Test], None).unwrap();
    assert_eq!(questions.len(), 100);
    assert!(questions.iter().all(|it| it.kind == TextKind::Questions));
}

#[test]
fn short_answers_have_limits_of_their_own() {
    let limits = |n_predict| TextKind::ALL.map(|kind| kind.n_predict(n_predict));
    assert_eq!(limits(512), [512, 512, 256, 64]);
    assert_eq!(limits(24), [24; 4]);
}
