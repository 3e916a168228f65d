//! `user review`: shows the items of a user one by one, to drop or edit them.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Args;
use cope_convert::say;
use cope_llama::home::{Home, UserFolder, UserName};
use cope_llama::profile::{Example, Masked, Masking};

use super::item::{self, Length};
use super::remove::say_consequences;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Review {
    /// Name of the user
    user: String,
    /// Show only items that hold this text, in upper or lower case
    #[arg(long, value_name = "TEXT")]
    matching: Option<String>,
    /// Keep passwords, keys, tokens, and numbers of cards, accounts and identity papers in items that are edited, which are
    /// masked otherwise
    #[arg(long)]
    keep_secrets: bool,
}

const EXAMPLES: &str = "\
At a terminal the items come one by one, the history first and then the held-out
texts, and each can be dropped or edited (in $VISUAL, $EDITOR or vi). Every step
is stored at once. Without a terminal all items are printed, each under its id,
by which `user remove-item` removes it.

Examples:
  cope-llama user review bob
  cope-llama user review bob --matching \"Anna Berg\" | less";

/// A person's decision about an item.
enum Decision {
    Next,
    Previous,
    Drop,
    Edit,
    Quit,
}

pub fn run(home: &Home, args: &Review) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    let profile = user.profile()?;
    let mut items = [profile.history, profile.held_out].concat();
    if let Some(text) = &args.matching {
        items.retain(|item| item.contains(text));
    }
    let mut out = io::stdout().lock();
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        for example in &items {
            item::write(&mut out, example, Length::Whole)?;
        }
        return Ok(());
    }
    let editor = env::var_os("VISUAL").or_else(|| env::var_os("EDITOR"));
    let pager = Pager {
        user: &user,
        editor: editor.unwrap_or_else(|| "vi".into()),
        masking: Masking {
            keeps_secrets: args.keep_secrets,
            ..Masking::default()
        },
    };
    let n_changed = pager.page(items, &mut io::stdin().lock(), &mut out)?;
    if n_changed > 0 {
        say!("{}: {n_changed} items changed", user.name());
        say_consequences(home, &user)?;
    }
    Ok(())
}

/// The terminal's side of a review.
struct Pager<'a> {
    user: &'a UserFolder,
    /// The editor's command, perhaps with options.
    editor: OsString,
    /// The choice of what is masked in items that are edited.
    masking: Masking,
}

impl Pager<'_> {
    /// Goes through the items, and returns the number of steps that dropped or edited one.
    fn page(
        &self,
        mut items: Vec<Example>,
        input: &mut impl BufRead,
        out: &mut impl Write,
    ) -> Result<usize> {
        let (mut at, mut n_changed) = (0, 0);
        while let Some(item) = items.get(at) {
            item::write(out, item, Length::Whole)?;
            match ask(at + 1, items.len(), input)? {
                Decision::Next => at += 1,
                Decision::Previous => at = at.saturating_sub(1),
                Decision::Drop => {
                    n_changed += change(self.user, item, None)?;
                    items.remove(at);
                }
                Decision::Edit => match edited(self.user, item, &self.editor) {
                    Ok(mut edited) => {
                        let mut masked = Masked::new();
                        self.masking.mask(edited.texts_mut(), &mut masked);
                        for (kind, n) in masked {
                            say!("{n} masked: {kind}");
                        }
                        n_changed += change(self.user, item, Some(&edited))?;
                        items[at] = edited;
                    }
                    Err(error) => say!("{error:#}"),
                },
                Decision::Quit => break,
            }
        }
        Ok(n_changed)
    }
}

/// Stores what became of an item.
fn change(user: &UserFolder, item: &Example, becomes: Option<&Example>) -> Result<usize> {
    let lock = user.lock()?;
    Ok(user.change_examples(&lock, |example| {
        if example == item {
            becomes.cloned()
        } else {
            Some(example.clone())
        }
    })?)
}

/// Asks what to do with an item.
fn ask(number: usize, n_items: usize, input: &mut impl BufRead) -> Result<Decision> {
    loop {
        let mut err = io::stderr();
        write!(
            err,
            "\nitem {number} of {n_items}: Enter for the next, p previous, d drop, e edit, q quit > "
        )?;
        err.flush()?;
        let mut line = String::new();
        let is_end = input.read_line(&mut line)? == 0;
        return Ok(match line.trim() {
            "q" => Decision::Quit,
            "" if is_end => Decision::Quit,
            "" | "n" => Decision::Next,
            "p" => Decision::Previous,
            "d" => Decision::Drop,
            "e" => Decision::Edit,
            _ => continue,
        });
    }
}

/// Has a person edit an item, whose last prompt and response are written to a file in the user's folder.
fn edited(user: &UserFolder, item: &Example, editor: &OsStr) -> Result<Example> {
    let mut file = tempfile::Builder::new()
        .prefix(".edit-")
        .suffix(".txt")
        .tempfile_in(user.path())?;
    file.write_all(text(item).as_bytes())?;
    // An editor may be named with options: `code --wait`.
    let status = Command::new("sh")
        .args(["-c", "exec $0 \"$1\""])
        .arg(editor)
        .arg(file.path())
        .status()
        .with_context(|| format!("cannot start {}", editor.display()))?;
    if !status.success() {
        bail!("{} failed; the item stays as it is", editor.display());
    }
    let text = std::fs::read_to_string(file.path()).context("cannot read the edited item")?;
    parse(item, &text)
}

/// The line between prompt and response in the file that is edited.
const RULE: &str = "----- the person's text, below this line -----";

fn text(item: &Example) -> String {
    let prompt = item.prompt.last().map_or("", |message| &message.content);
    format!("{prompt}\n{RULE}\n{}\n", item.response)
}

/// The item with an edited prompt and response.
fn parse(item: &Example, text: &str) -> Result<Example> {
    let (prompt, response) = text
        .split_once(&format!("\n{RULE}\n"))
        .with_context(|| format!("the line {RULE:?} is gone; the item stays as it is"))?;
    if prompt.trim().is_empty() || response.trim().is_empty() {
        bail!("a prompt and a text are needed; the item stays as it is");
    }
    let mut edited = item.clone();
    if let Some(last) = edited.prompt.last_mut() {
        prompt.clone_into(&mut last.content);
    }
    response
        .strip_suffix('\n')
        .unwrap_or(response)
        .clone_into(&mut edited.response);
    Ok(edited)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cope_llama::profile::HistoryPart;

    #[test]
    fn each_step_of_a_review_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let user = home.create_user(UserName::new("bob").unwrap()).unwrap();
        let items: Vec<_> = ["one", "two", "three"]
            .map(|text| Example::new("Write.", format!("{text} dear")))
            .to_vec();
        let mut profile = user.profile().unwrap();
        profile.add(HistoryPart::History, items.clone());
        user.save_profile(&profile).unwrap();
        std::fs::write(user.pairs(), "").unwrap();
        let pager = Pager {
            user: &user,
            editor: "sed -i s/dear/Tom/".into(),
            masking: Masking::default(),
        };
        let mut shown = Vec::new();
        // The first is dropped, the second passed and come back to, the third edited.
        let n = pager
            .page(
                items.clone(),
                &mut "d\n\np\nwhat?\n\ne\nq\n".as_bytes(),
                &mut shown,
            )
            .unwrap();
        assert_eq!(n, 2);
        let left = [items[1].clone(), Example::new("Write.", "three Tom")];
        assert_eq!(user.profile().unwrap().history, left);
        assert!(!user.pairs().exists());
        let shown = String::from_utf8(shown).unwrap();
        assert!(
            shown.contains(&items[0].id()) && shown.ends_with("text    three Tom\n"),
            "{shown}"
        );
        let failing = Pager {
            user: &user,
            editor: "false".into(),
            masking: Masking::default(),
        };
        let n = failing
            .page(left.to_vec(), &mut "e\n".as_bytes(), &mut Vec::new())
            .unwrap();
        assert_eq!(n, 0);
        assert_eq!(user.profile().unwrap().history, left);
    }

    #[test]
    fn a_secret_that_is_typed_into_an_item_is_masked_unless_it_is_to_stay() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path());
        let user = home.create_user(UserName::new("bob").unwrap()).unwrap();
        let mut profile = user.profile().unwrap();
        profile.add(HistoryPart::History, vec![Example::new("Write.", "dear")]);
        user.save_profile(&profile).unwrap();
        let edit = |from: &str, to: &str, keeps_secrets| {
            let pager = Pager {
                user: &user,
                editor: format!("sed -i s/{from}/{to}/").into(),
                masking: Masking {
                    keeps_secrets,
                    ..Masking::default()
                },
            };
            let items = user.profile().unwrap().history;
            pager
                .page(items, &mut "e\nq\n".as_bytes(), &mut Vec::new())
                .unwrap();
            user.profile().unwrap().history[0].response.clone()
        };
        let card = "5555555555554444";
        assert_eq!(edit("dear", card, false), "[card number]");
        assert_eq!(edit(".card.number.", card, true), card);
    }

    #[test]
    fn an_item_is_edited_as_prompt_and_text() {
        let item = Example::new("How are you?", "Splendid,\ndear!");
        assert_eq!(parse(&item, &text(&item)).unwrap(), item);
        let edited = text(&item).replace("dear", "Tom");
        assert_eq!(
            parse(&item, &edited).unwrap(),
            Example::new("How are you?", "Splendid,\nTom!")
        );
        assert!(parse(&item, "How are you?\nFine").is_err());
        assert!(parse(&item, &format!("\n{RULE}\nFine")).is_err());
    }
}
