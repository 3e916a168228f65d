//! `eval examples`: prints answers beside the users' own texts.

use std::io::{self, Write};

use anyhow::{Result, ensure};
use clap::Args as ClapArgs;
use cope_llama::eval::{Shard, StudyTask, units};
use cope_llama::home::Home;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::study::StudyArgs;

#[derive(ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    study: StudyArgs,
    /// The number of queries of each task
    #[arg(short, value_name = "N", default_value_t = 2)]
    n: usize,
    /// The seed of the random choice of queries
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

const EXAMPLES: &str = "\
Example:
  cope-llama eval examples --data lamp --method tam,oppu,cope -n 1";

pub fn run(home: &Home, args: &Args) -> Result<()> {
    let study = args.study.study(home)?;
    let store = args.study.store(home)?;
    let units = units(&study, &args.study.methods(), Shard::WHOLE);
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let mut out = io::stdout().lock();
    let mut n_shown = 0;
    for (number, task) in study.tasks.iter().enumerate() {
        for (user, query) in queries(task).sample(&mut rng, args.n) {
            let subject = &task.users[*user];
            let query = &subject.queries[*query];
            writeln!(out, "# {}, {}", task.name, subject.id)?;
            let asked = query.example.prompt.last();
            show(
                &mut out,
                "asked",
                asked.map_or("", |message| &message.content),
            )?;
            show(&mut out, "the user's own", &query.example.response)?;
            for unit in &units {
                if (unit.task, unit.user) != (number, *user) {
                    continue;
                }
                let answers = store.answers(&unit.key)?;
                let predictions = answers.into_iter().flat_map(|it| it.predictions);
                for prediction in predictions.filter(|it| it.id == query.id) {
                    let title = unit.method.title();
                    let title = format!("{title}, ROUGE-L {:.3}", prediction.rouge_l);
                    show(
                        &mut out,
                        &title,
                        prediction
                            .text
                            .as_deref()
                            .unwrap_or("(the text is not among these results)"),
                    )?;
                    n_shown += 1;
                }
            }
        }
    }
    ensure!(
        n_shown > 0,
        "nothing of this study is answered yet: `cope-llama eval run` with the same options does it"
    );
    Ok(())
}

/// All queries of a task, each as the indices of user and query.
fn queries(task: &StudyTask) -> Vec<(usize, usize)> {
    let users = task.users.iter().enumerate();
    users
        .flat_map(|(user, subject)| (0..subject.queries.len()).map(move |query| (user, query)))
        .collect()
}

/// Prints a text under its title.
fn show(out: &mut impl Write, title: &str, text: &str) -> io::Result<()> {
    writeln!(out, "\n── {title}\n{text}")
}
