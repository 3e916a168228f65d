//! `--hf-repo` and `--hf-file`: models of Hugging Face's Hub by llama.cpp's options, downloaded where they are missing.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use clap::Args;
use cope_convert::cli::signals;
use cope_convert::say;
use cope_llama::bases::{Hub, HubEvent, HubModel, Places};
use indicatif::{ProgressBar, ProgressStyle};

use super::byte_size::size;

/// The choice of a model of Hugging Face's Hub.
#[derive(Args)]
pub struct HubArgs {
    /// Base model of Hugging Face, also spelled -hf: a repository of GGUF files as owner/repo, and a quantisation [default:
    /// `Q4_K_M`, else `Q8_0`, else the first file]. What is missing is downloaded into Hugging Face's cache
    #[arg(long, value_name = "REPO[:QUANT]")]
    hf_repo: Option<String>,
    /// File of the repository instead of a quantisation, also spelled -hff
    #[arg(long, value_name = "FILE", requires = "hf_repo")]
    hf_file: Option<String>,
    /// The file, once it was asked for: the Hub is asked once.
    #[arg(skip)]
    path: OnceLock<PathBuf>,
}

impl HubArgs {
    /// The file of the model in the cache; `None` if none was asked for.
    pub fn path(&self) -> Result<Option<PathBuf>> {
        let Some(repo) = &self.hf_repo else {
            return Ok(None);
        };
        if let Some(path) = self.path.get() {
            return Ok(Some(path.clone()));
        }
        let model = HubModel::parse(repo)?.with_file(self.hf_file.clone());
        let path = download(&model)?;
        Ok(Some(self.path.get_or_init(|| path).clone()))
    }
}

/// Downloads a model, which a signal stops, and shows how far it is.
fn download(model: &HubModel) -> Result<PathBuf> {
    let hub = Hub::of_environment(&Places::of_this_user())?;
    let stop = Arc::default();
    let _stopping = signals::stop_sets_within(&stop);
    let mut bar = ProgressBar::hidden();
    let path = hub.get(model, &stop, &mut |event| match event {
        HubEvent::Started { file, bytes, done } => {
            let there = match done {
                0 => String::new(),
                done => format!(", of which {} are here", size(done)),
            };
            say!(
                "downloading {file} of {}: {}{there}",
                model.repo,
                size(bytes)
            );
            bar = bar_of(bytes, done);
        }
        HubEvent::Progress(done) => bar.set_position(done),
        HubEvent::Checking => bar.finish_and_clear(),
        HubEvent::Note(note) => bar.suspend(|| say!("{note}")),
    });
    bar.finish_and_clear();
    Ok(path?)
}

/// A bar for the bytes of a file; hidden where stderr is no terminal.
fn bar_of(bytes: u64, done: u64) -> ProgressBar {
    let style = "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
    // A malformed template falls back to indicatif's own bar.
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(bytes)
        .with_position(done)
        .with_style(style);
    bar.reset_eta();
    bar
}
