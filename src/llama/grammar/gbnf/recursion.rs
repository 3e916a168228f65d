//! The rules of a grammar together: those that are missing, and those that llama.cpp could follow without end.

use super::{EMPTY_FOREVER, GbnfPart, Parser, Rule};

/// The most ways in which a text can begin by one rule. llama.cpp keeps a state for each of them.
const MAX_WAYS: u64 = 100_000;

/// The most ways for all rules together, which llama.cpp follows within about a second.
const MAX_ALL_WAYS: u64 = 100_000_000;

impl Parser<'_> {
    /// Checks that every rule is defined, and that none begins with itself: its text would not begin at all.
    pub(super) fn check_rules(&self) -> Result<(), String> {
        if let Some(rule) = self.rules.iter().find(|it| it.alternatives.is_none()) {
            let what = format!("the rule `{}` is not defined", rule.name);
            return Err(self.wrong_at(rule.at, &what));
        }
        if !self.names.contains_key("root") {
            return Err("has no rule `root`, with which it begins".to_owned());
        }
        let parts = self.rules.iter().flat_map(Rule::alternatives);
        for part in parts.flatten().filter(|part| part.is_endless) {
            let alternatives = part.rule.map(|rule| self.rules[rule].alternatives());
            if alternatives.is_some_and(|it| it.iter().any(Vec::is_empty)) {
                return Err(self.wrong_at(part.at, EMPTY_FOREVER));
            }
        }
        self.check_beginnings()
    }

    fn check_beginnings(&self) -> Result<(), String> {
        let openings = self.openings();
        let mut n_waiting: Vec<_> = openings.iter().map(Vec::len).collect();
        let users = users(&openings);
        let mut ways = vec![1_u64; openings.len()];
        // Each rule comes after those that it may begin with.
        let mut ready: Vec<_> = (0..openings.len())
            .filter(|&it| n_waiting[it] == 0)
            .collect();
        let (mut n_all, mut n_most) = (0_u64, 0);
        while let Some(rule) = ready.pop() {
            n_all = n_all.saturating_add(ways[rule]);
            n_most = n_most.max(ways[rule]);
            for &user in &users[rule] {
                ways[user] = ways[user].saturating_add(ways[rule]);
                n_waiting[user] -= 1;
                if n_waiting[user] == 0 {
                    ready.push(user);
                }
            }
        }
        if let Some(rule) = self.circular(&openings, &n_waiting) {
            let what = format!("the rule `{}` may begin with itself", rule.name);
            return Err(self.wrong_at(rule.at, &what));
        }
        if n_most > MAX_WAYS || n_all > MAX_ALL_WAYS {
            return Err("has too many ways to begin a text".to_owned());
        }
        Ok(())
    }

    /// A rule that waits for itself, if any still waits for one that it may begin with.
    fn circular(&self, openings: &[Vec<usize>], n_waiting: &[usize]) -> Option<&Rule<'_>> {
        let waits = |rule: &usize| n_waiting[*rule] > 0;
        let next = |rule: usize| openings[rule].iter().copied().find(waits);
        let mut rule = (0..openings.len()).find(waits)?;
        // A rule that waits leads to a circle, in which some rule has a name.
        for _ in 0..openings.len() {
            rule = next(rule)?;
        }
        while self.rules[rule].name.is_empty() {
            rule = next(rule)?;
        }
        self.rules.get(rule)
    }

    /// For each rule, the rules with which its text may begin.
    fn openings(&self) -> Vec<Vec<usize>> {
        let empty = self.empty();
        let may_miss = |part: &GbnfPart| part.is_optional || part.rule.is_some_and(|it| empty[it]);
        let of_sequence = |sequence: &Vec<GbnfPart>| {
            let n_missing = sequence.iter().take_while(|part| may_miss(part)).count();
            let first = sequence.iter().take(n_missing + 1);
            first.filter_map(|part| part.rule).collect::<Vec<_>>()
        };
        let of_rule =
            |alternatives: &[Vec<GbnfPart>]| alternatives.iter().flat_map(of_sequence).collect();
        self.rules
            .iter()
            .map(|it| of_rule(it.alternatives()))
            .collect()
    }

    /// For each rule, whether its text may be empty.
    fn empty(&self) -> Vec<bool> {
        let n = self.rules.len();
        let parts = |rule: usize| self.rules[rule].alternatives().iter().flatten();
        let named = (0..n).map(|rule| parts(rule).filter_map(|part| part.rule).collect());
        let users = users(&named.collect::<Vec<_>>());
        let mut empty = vec![false; n];
        let mut waiting: Vec<_> = (0..n).collect();
        while let Some(rule) = waiting.pop() {
            let may_miss =
                |part: &GbnfPart| part.is_optional || part.rule.is_some_and(|it| empty[it]);
            let mut alternatives = self.rules[rule].alternatives().iter();
            if !empty[rule] && alternatives.any(|it| it.iter().all(may_miss)) {
                empty[rule] = true;
                waiting.extend(&users[rule]);
            }
        }
        empty
    }
}

/// For each rule, the rules that name it, once for each time.
fn users(named: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut users = vec![Vec::new(); named.len()];
    for (user, named) in named.iter().enumerate() {
        for &rule in named {
            users[rule].push(user);
        }
    }
    users
}
