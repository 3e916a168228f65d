//! `doctor`: checks the CPU, the devices, the base models and the users, and says what to fix.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Result;
use cope_llama::bases;
use cope_llama::home::{Home, UserFolder};
use cope_llama::llama;

/// Problems, one line each, with what to do about them.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn add(&mut self, finding: impl Into<String>) {
        self.0.push(finding.into());
    }
}

/// Prints the report; returns whether no problem was found.
pub fn run(home: &Home) -> Result<bool> {
    let mut out = io::stdout().lock();
    let mut findings = Findings::default();
    cpu(&mut out, &mut findings)?;
    devices(&mut out)?;
    writeln!(out, "data      {}", home.root().display())?;
    base_models(&mut out, home, &mut findings)?;
    users(&mut out, home, &mut findings)?;
    if findings.0.is_empty() {
        writeln!(out, "no problems found")?;
    }
    for finding in &findings.0 {
        writeln!(out, "fix       {finding}")?;
    }
    Ok(findings.0.is_empty())
}

fn cpu(out: &mut impl Write, findings: &mut Findings) -> Result<()> {
    let features = llama::cpu_features();
    let names = |wanted: fn(&llama::CpuFeature) -> bool| {
        let names: Vec<&str> = features
            .iter()
            .filter(|feature| wanted(feature))
            .map(|feature| feature.name)
            .collect();
        names.join(" ")
    };
    writeln!(out, "CPU has   {}", names(|feature| feature.cpu))?;
    writeln!(out, "ggml uses {}", names(|feature| feature.built))?;
    let unused = names(|feature| feature.cpu && !feature.built);
    if !unused.is_empty() {
        findings.add(format!(
            "ggml was built without {unused} and runs slower than it could: build on this machine, \
             RUSTFLAGS=\"-C target-cpu=native\" cargo build --release"
        ));
    }
    Ok(())
}

fn devices(out: &mut impl Write) -> Result<()> {
    for device in llama::devices() {
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        writeln!(
            out,
            "device    {} ({}), {:.1} of {:.1} GB free",
            device.name,
            device.description,
            gigabytes(device.memory_free),
            gigabytes(device.memory_total)
        )?;
    }
    Ok(())
}

fn base_models(out: &mut impl Write, home: &Home, findings: &mut Findings) -> Result<()> {
    let paths = home.bases()?;
    for path in &paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match home.base_ref(path) {
            Ok(base) => {
                writeln!(out, "base      {name} ({})", base.architecture)?;
                if let Some(listed) = bases::all().into_iter().find(|listed| listed.file == name)
                    && listed.sha256 != base.sha256
                {
                    findings.add(format!(
                        "{name} has another SHA-256 than the list says; `cope-llama model pull {}` downloads it again",
                        listed.name
                    ));
                }
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                findings.add(format!(
                    "{error:#}; delete the file or pull the model again"
                ));
            }
        }
    }
    if paths.is_empty() {
        writeln!(out, "base      none")?;
        findings.add("no base model is installed; run `cope-llama model pull`");
    }
    Ok(())
}

fn users(out: &mut impl Write, home: &Home, findings: &mut Findings) -> Result<()> {
    for user in home.users()? {
        match user.profile() {
            Ok(profile) => writeln!(
                out,
                "user      {} ({} items)",
                user.name(),
                profile.history.len()
            )?,
            Err(error) => findings.add(format!("{:#}", anyhow::Error::from(error))),
        }
        if let Err(error) = check_adapter(home, &user) {
            findings.add(format!(
                "{}: {error:#}; run `cope-llama train {0}`",
                user.name()
            ));
        }
    }
    Ok(())
}

/// Checks that the user's adapter, if there is one, fits the base that it was trained on.
fn check_adapter(home: &Home, user: &UserFolder) -> Result<()> {
    let Some(manifest) = user.manifest()? else {
        return Ok(());
    };
    let base = home.base(&manifest.base.file);
    let sha256 = home.base_ref(&base)?.sha256;
    if Path::exists(&user.adapter()) {
        let adapter = cope_convert::Adapter::read_gguf(&user.adapter())?;
        adapter.check_fits(&cope_convert::gguf::Gguf::open(&base)?, &sha256)?;
    }
    Ok(())
}
