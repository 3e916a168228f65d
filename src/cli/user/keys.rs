//! `user key` and `user identity`: who may use the server, and as which user.

use std::io::{self, Write};

use anyhow::Result;
use clap::{ArgGroup, Args};
use cope_convert::say;
use cope_llama::home::{Home, UserName};
use cope_llama::serve::{Identity, KeyOf};

#[derive(Args)]
#[command(
    group = ArgGroup::new("whose").required(true),
    after_help = "A new key replaces the one before. It is printed once; only its hash is stored."
)]
pub struct KeyArgs {
    /// User whose key to create: it gives access to this user's adapter and the base
    #[arg(group = "whose")]
    user: Option<String>,
    /// Create the administrator's key: it gives access to all users' adapters
    #[arg(long, group = "whose")]
    admin: bool,
    /// Revoke the present key and create no new one
    #[arg(long)]
    revoke: bool,
}

#[derive(Args)]
pub struct IdentityArgs {
    /// Name of the user
    user: String,
    /// E-mail address of the user's account in Open WebUI; without this option, the stored address is deleted
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
        say!("the key is revoked");
    } else {
        writeln!(io::stdout(), "{}", of.make(home)?)?;
        say!("only the hash of the key is stored: it cannot be shown again");
    }
    Ok(())
}

pub fn identity(home: &Home, args: &IdentityArgs) -> Result<()> {
    let user = home.user(UserName::new(&args.user)?)?;
    match &args.email {
        Some(email) => Identity::new(email)?.keep(home, &user)?,
        None => Identity::forget(&user)?,
    }
    Ok(())
}
