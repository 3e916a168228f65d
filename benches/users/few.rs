//! `--few`: what helps a user with few texts? Each of the two users of a task is trained on the newest `--few` items by
//! SFT: from random weights, from the adapter of the other user (trained on `--items`), and on top of a task adapter
//! (trained on items of all users but the two). Both adapters are also measured before they have seen a text of the user.

use std::fmt::Write;

use anyhow::Result;
use cope_llama::home::{AdapterFolder, BaseRef, Home, Stage, UserFolder, UserName};
use cope_llama::profile::{Profile, lamp, newest};
use cope_llama::train::model::TrainModel;
use cope_llama::train::{Encoded, Encoder, TrainConfig};

use super::{Bench, Items, difference, extend, logprobs, mean};

const SFT: [Stage; 1] = [Stage::Sft];

/// The most items that a task adapter is trained on, in equal parts of each user.
const TASK_ITEMS: usize = 150;

/// A user's items under three models: before a training on few items under the base, the other user's adapter and the
/// task's; after it under an adapter trained from random weights, from the other user's, and on top of the task's.
type Measured = [Items; 3];

/// Prints the table.
pub fn table(bench: &Bench) -> Result<()> {
    println!(
        "| task | user | trained on | items | base | from random weights | other user's adapter | trained from it | − from random weights | task adapter | trained on top of it | − from random weights |"
    );
    println!("|{}", "---|".repeat(12));
    bench
        .tasks()
        .try_for_each(|(task, users)| rows(bench, task, users))
}

/// Prints the rows of a task: for each number of items a row for each user, and one for both together.
fn rows(bench: &Bench, task: &str, users: [&str; 2]) -> Result<()> {
    let file = bench.file(task);
    let lamp = lamp::read(&file)?;
    let encoder = Encoder::new(&bench.vocabulary, bench.model.shape().n_ctx)?;
    let starts = Starts::train(bench, task, users, &lamp)?;
    let mut measured = Vec::new();
    for (user, profile) in starts.profiles.iter().enumerate() {
        let items = encoder.examples(&profile.held_out, &file)?;
        measured.push((starts.before(bench, user, &items)?, items));
    }
    for &few in &bench.options.few {
        let mut both = (Measured::default(), Measured::default());
        for (user, (before, items)) in measured.iter().enumerate() {
            let after = starts.after(bench, user, few, items)?;
            let row = cells(before, &after)?;
            println!("| {task} | {} | {few} | {row}", users[user]);
            extend(&mut both.0, before);
            extend(&mut both.1, &after);
        }
        println!("| {task} | both | {few} | {}", cells(&both.0, &both.1)?);
    }
    Ok(())
}

/// The adapters of one task that trainings on few items start from.
struct Starts {
    home: Home,
    /// The texts of the two users.
    profiles: Vec<Profile>,
    /// The users' folders, each with an adapter of its own.
    users: Vec<UserFolder>,
    task: AdapterFolder,
    /// The base with the task adapter.
    on_task: TrainModel,
}

impl Starts {
    fn train(bench: &Bench, task: &str, users: [&str; 2], lamp: &lamp::Lamp) -> Result<Self> {
        let home = Home::at(bench.home.path().join(task));
        let config = bench.options.config();
        let (mut profiles, mut folders) = (Vec::new(), Vec::new());
        for (user, name) in users.into_iter().zip(["first", "second"]) {
            let profile = bench.profile(lamp, user)?;
            let folder = home.create_user(UserName::new(name)?)?;
            bench.run(&folder, &profile.history, &bench.base, &config, &SFT)?;
            profiles.push(profile);
            folders.push(folder);
        }
        let others = lamp.users.iter();
        let others: Vec<_> = others
            .filter(|user| !users.contains(&user.id.as_str()))
            .collect();
        let share = TASK_ITEMS / others.len().max(1);
        let items = others.iter().map(|user| newest(&user.history, share));
        let items = items.collect::<Vec<_>>().concat();
        let folder = home.create_task(UserName::new("task")?)?;
        bench.run(&folder, &items, &bench.base, &config, &SFT)?;
        let adapter = cope_convert::Adapter::read_gguf(&folder.sft())?;
        let weight_type = config.weight_type;
        Ok(Self {
            home,
            profiles,
            users: folders,
            task: folder,
            on_task: TrainModel::load_with_task(
                &bench.gguf,
                weight_type,
                Some(&adapter),
                None,
                &mut || Ok(()),
            )?,
        })
    }

    /// Measures `items` of the user of this number before a training on any of the user's own.
    fn before(&self, bench: &Bench, user: usize, items: &[Encoded]) -> Result<Measured> {
        let other = bench.lora(&self.users[1 - user].sft())?;
        Ok([
            logprobs(&bench.model, None, items)?,
            logprobs(&bench.model, Some(&other), items)?,
            logprobs(&self.on_task, None, items)?,
        ])
    }

    /// Trains the user of this number on the newest `few` items in every way, and measures `items`.
    fn after(&self, bench: &Bench, user: usize, few: usize, items: &[Encoded]) -> Result<Measured> {
        let history = newest(&self.profiles[user].history, few);
        let folder = self.home.create_user(UserName::new("few")?)?;
        let other = &self.users[1 - user];
        let random = bench.options.config();
        let mut from_other = random.clone();
        from_other.start_from(other, &folder, &bench.path, &bench.base)?;
        let base_on_task = BaseRef {
            task_sha256: Some(folder.add_task(&self.task.sft())?),
            ..bench.base.clone()
        };
        let trained = |base: &BaseRef, config: &TrainConfig, model: &TrainModel| {
            bench.run(&folder, history, base, config, &SFT)?;
            logprobs(model, Some(&bench.lora(&folder.sft())?), items)
        };
        Ok([
            trained(&bench.base, &random, &bench.model)?,
            trained(&bench.base, &from_other, &bench.model)?,
            trained(&base_on_task, &random, &self.on_task)?,
        ])
    }
}

/// The cells of a row.
fn cells(before: &Measured, after: &Measured) -> Result<String> {
    let ([base, other, task], [random, from_other, on_task]) = (before, after);
    let mut cells = format!("{} | {:.3} | {:.3} |", base.len(), mean(base), mean(random));
    for (before, after) in [(other, from_other), (task, on_task)] {
        let (before, own) = (mean(before), mean(after));
        let difference = difference(after, random);
        write!(cells, " {before:.3} | {own:.3} | {difference} |")?;
    }
    Ok(cells)
}
