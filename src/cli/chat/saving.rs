//! `/save` and `/load`: chats in the user's folder, or in the home's where there is no user.

use anyhow::{Context, Result, bail};
use cope_convert::say;
use cope_llama::home::{SavedChats, UserFolder, UserName};
use cope_llama::message::Message;
use serde::{Deserialize, Serialize};

use super::Chat;
use super::chat_settings::ChatSettings;

/// The content of a saved chat's file.
#[derive(Serialize, Deserialize)]
struct SavedChat {
    settings: ChatSettings,
    /// The messages without the system prompt.
    messages: Vec<Message>,
    /// The number of answers so far to the last message.
    n_answers: u32,
}

impl Chat<'_> {
    /// Saves the chat under `name`, or under the name that it has. A chat that was saved by another one is not replaced.
    pub(super) fn save(&mut self, name: Option<&str>) -> Result<()> {
        let name = match (name, &self.saved_as) {
            (Some(name), _) => UserName::new(name)?,
            (None, Some(name)) => name.clone(),
            (None, None) => bail!("/save needs a name, for example /save letters"),
        };
        let chats = self.saved_chats();
        if self.saved_as.as_ref() != Some(&name) && chats.has(&name) {
            bail!("there is a saved chat {name} already; choose another name, or /load it");
        }
        let chat = SavedChat {
            settings: self.settings.clone(),
            messages: self.messages.clone(),
            n_answers: self.n_answers,
        };
        chats.save(&name, &chat)?;
        say!(
            "[saved {} messages; /load {name} brings them back]",
            self.messages.len()
        );
        self.saved_as = Some(name);
        Ok(())
    }

    /// Goes on with a saved chat instead of the present one. On an error the present chat goes on.
    pub(super) fn load(&mut self, name: &str) -> Result<()> {
        let name = UserName::new(name)?;
        let SavedChat {
            mut settings,
            messages,
            n_answers,
        } = self.saved_chats().load(&name)?;
        // Without an adapter there is nothing to scale; a chat that was saved so keeps the scale in force.
        settings.scale = self.settings.scale.map(|now| settings.scale.unwrap_or(now));
        self.adopt(settings)
            .with_context(|| format!("the saved chat {name} cannot be used"))?;
        self.messages = messages;
        self.n_answers = n_answers;
        self.given = None;
        say!("[loaded {name}: {} messages]", self.messages.len());
        self.saved_as = Some(name);
        Ok(())
    }

    fn saved_chats(&self) -> SavedChats {
        let user = self.source.user();
        user.map_or_else(|| self.home.chats(), UserFolder::chats)
    }
}
