//! Places in a schema, and the names of the rules that llama.cpp makes of the schemas there.

/// The rules of llama.cpp that others name without looking who has made them: the name, the text that names it, and its own
/// text.
const BUILT_IN: [(&str, &str, &str); 3] = [
    ("date-time", r#""\"" date-time "\"""#, r#"date "T" time"#),
    (
        "integral-part",
        r#""-"? integral-part"#,
        "[0] | [1-9] [0-9]{0,15}",
    ),
    ("decimal-part", r#""." decimal-part"#, "[0-9]{1,16}"),
];

/// The place of a schema.
pub(super) struct SchemaPlace {
    /// The path to it, for messages.
    pub path: String,
    /// Where the name of its rule comes from.
    name: String,
}

impl SchemaPlace {
    /// The place of the whole schema.
    pub fn root() -> Self {
        Self {
            path: "#".to_owned(),
            name: String::new(),
        }
    }

    /// The place that a reference such as `#/$defs/a` leads to.
    pub fn of_reference(pointer: &str) -> Self {
        Self {
            path: pointer.to_owned(),
            name: format!("ref{}", pointer.trim_start_matches('#')),
        }
    }

    /// The place below this one of a schema whose rule is called `name` after this one's.
    pub fn below(&self, path: &str, name: &str) -> Self {
        let name = match self.name.as_str() {
            "" => name.to_owned(),
            own => format!("{own}-{name}"),
        };
        Self {
            path: format!("{}/{path}", self.path),
            name,
        }
    }

    /// The same rule, for messages that name another path.
    pub fn at(&self, path: &str) -> Self {
        Self {
            path: path.to_owned(),
            name: self.name.clone(),
        }
    }

    /// The place of the `number`th of the alternatives under the keyword `key`.
    pub fn alternative(&self, key: &str, number: usize) -> Self {
        let prefix = if self.name.is_empty() {
            "alternative-"
        } else {
            ""
        };
        self.below(&format!("{key}/{number}"), &format!("{prefix}{number}"))
    }

    /// The name of the rule, in which a hyphen stands for other characters in a row.
    pub fn rule(&self) -> String {
        let mut rule = String::new();
        let mut is_replaced = false;
        for c in self.name.chars() {
            let is_valid = c.is_ascii_alphanumeric() || c == '-';
            if is_valid {
                rule.push(c);
            } else if !is_replaced {
                rule.push('-');
            }
            is_replaced = !is_valid;
        }
        rule
    }
}

/// Checks that no property has taken the name of a rule of llama.cpp that `grammar`, which it has written, names.
///
/// # Errors
///
/// The name.
pub(in crate::llama) fn check_built_in(grammar: &str) -> Result<(), String> {
    let has_own = |name: &str, text: &str| {
        let mut rules = grammar.lines().filter_map(|line| line.split_once(" ::= "));
        rules.any(|rule| rule == (name, text))
    };
    let mut taken = BUILT_IN.iter().filter(|it| grammar.contains(it.1));
    match taken.find(|(name, _, text)| !has_own(name, text)) {
        None => Ok(()),
        Some((name, ..)) => Err(format!(
            "llama.cpp cannot tell a property's name from its own rule `{name}`: rename the property"
        )),
    }
}
