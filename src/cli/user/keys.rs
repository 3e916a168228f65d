//! `user key`, `user identity`: who may use the server as whom.

use std::io::{self, Write};

use anyhow::Result;
use clap::{ArgGroup, Args};
use cope_llama::home::{Home, UserName};
use cope_llama::serve::{Identity, KeyOf};

#[derive(Args)]
#[command(group = ArgGroup::new("whose").required(true))]
pub struct KeyArgs {
    /// The user, whose key reaches this user's adapter and the base
    #[arg(group = "whose")]
    user: Option<String>,
    /// The administrator's key, which reaches all users' adapters
    #[arg(long, group = "whose")]
    admin: bool,
    /// Make none: the one that there is opens nothing any more
    #[arg(long)]
    revoke: bool,
}

#[derive(Args)]
pub struct Identify {
    /// The user
    user: String,
    /// The address, as Open WebUI has it; none forgets it
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
}

pub fn key(home: &Home, args: &KeyArgs) -> Result<()> {
    let of = match &args.user {
        Some(name) => KeyOf::User(home.user(UserName::new(name)?)?),
        None => KeyOf::Admin,
    };
    if args.revoke {
        of.revoke(home)?;
        eprintln!("the key opens nothing any more");
    } else {
        writeln!(io::stdout(), "{}", of.make(home)?)?;
        eprintln!("only its hash is kept: it cannot be shown again");
    }
    Ok(())
}

pub fn identity(home: &Home, args: &Identify) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    match &args.email {
        Some(email) => Identity::new(email)?.keep(home, &user)?,
        None => Identity::forget(&user)?,
    }
    Ok(())
}
