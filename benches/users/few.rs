//! `--few`: what helps a user with few texts? Each of the two users of a task is trained on the newest `--few` items by
//! SFT: from random weights, from the adapter of the other user (trained on `--items`), and on top of a task adapter
//! (trained on items of all users but the two). Both adapters are also measured before they have seen a text of the user.

use std::fmt::Write;

use anyhow::Result;
use cope_llama::home::{AdapterFolder, BaseRef, Home, Stage, UserFolder, UserName};
use cope_llama::profile::{Example, Profile, lamp, newest};
use cope_llama::train::model::TrainModel;
use cope_llama::train::{Encoded, Encoder, TrainConfig, Training, train};

use super::{Bench, Items, interval, logprobs, mean};

/// The most items that a task adapter is trained on, in equal parts of each user.
const TASK_ITEMS: usize = 150;

/// The models under which a user's items are measured: the base, an adapter trained from random weights, the other user's,
/// one trained from that, the task's, and one trained on top of that.
type Measured = [Items; 6];

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
    for &few in &bench.options.few {
        let mut both = Measured::default();
        for (user, name) in users.into_iter().enumerate() {
            let items = encoder.examples(&starts.profiles[user].held_out, &file)?;
            let measured = starts.measure(bench, user, few, &items)?;
            println!("| {task} | {name} | {few} | {}", cells(&measured)?);
            for (both, one) in both.iter_mut().zip(measured) {
                both.extend(one);
            }
        }
        println!("| {task} | both | {few} | {}", cells(&both)?);
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
            sft(bench, &folder, &profile.history, &bench.base, &config)?;
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
        sft(bench, &folder, &items, &bench.base, &config)?;
        let adapter = cope_convert::Adapter::read_gguf(&folder.sft())?;
        let weight_type = config.weight_type;
        Ok(Self {
            home,
            profiles,
            users: folders,
            task: folder,
            on_task: TrainModel::load_with_task(&bench.gguf, weight_type, Some(&adapter))?,
        })
    }

    /// Trains the user of this number on the newest `few` items in every way, and measures `items`.
    fn measure(
        &self,
        bench: &Bench,
        user: usize,
        few: usize,
        items: &[Encoded],
    ) -> Result<Measured> {
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
            sft(bench, &folder, history, base, config)?;
            logprobs(model, Some(&bench.lora(&folder.sft())?), items)
        };
        let (base, on_task) = (&bench.model, &self.on_task);
        Ok([
            logprobs(base, None, items)?,
            trained(&bench.base, &random, base)?,
            logprobs(base, Some(&bench.lora(&other.sft())?), items)?,
            trained(&bench.base, &from_other, base)?,
            logprobs(on_task, None, items)?,
            trained(&base_on_task, &random, on_task)?,
        ])
    }
}

/// Trains the adapter of a folder by SFT.
fn sft(
    bench: &Bench,
    folder: &AdapterFolder,
    history: &[Example],
    base: &BaseRef,
    config: &TrainConfig,
) -> Result<()> {
    folder.save_profile(&Profile {
        history: history.to_vec(),
        held_out: Vec::new(),
    })?;
    let training = Training {
        folder,
        base_path: &bench.path,
        base,
        config,
        stages: &[Stage::Sft],
    };
    Ok(train(training, &mut |_| Ok(()))?)
}

/// The cells of a row.
fn cells(measured: &Measured) -> Result<String> {
    let [base, random, other, from_other, task, on_task] = measured;
    let mut cells = format!("{} | {:.3} | {:.3} |", base.len(), mean(base), mean(random));
    for (before, after) in [(other, from_other), (task, on_task)] {
        let (before, own) = (mean(before), mean(after));
        let (difference, (low, high)) = (own - mean(random), interval(after, random));
        write!(
            cells,
            " {before:.3} | {own:.3} | {difference:+.3} [{low:+.3}, {high:+.3}] |"
        )?;
    }
    Ok(cells)
}
