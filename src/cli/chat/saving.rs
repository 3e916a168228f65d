//! `/save` and `/load`: chats in the user's folder, or in the home's where there is no user.

use anyhow::{Context, Result, bail};
use cope_convert::say;
use cope_llama::home::{SavedChat, SavedChats, UserFolder, UserName};
use serde_json::{Map, Value, json};

use super::Chat;
use super::chat_settings::ChatSettings;

impl Chat<'_> {
    /// Saves the chat under `name`, or under the name that it has. A chat that was saved by another one is not replaced.
    pub(super) fn save(&mut self, name: Option<&str>) -> Result<()> {
        let name = match (name, &self.saved_as) {
            (Some(name), _) => UserName::new(name)?,
            (None, Some(name)) => name.clone(),
            (None, None) => bail!("/save needs a name, for example /save letters"),
        };
        let chats = self.saved_chats();
        let is_same = self.saved_as.as_ref() == Some(&name);
        if !is_same && chats.has(&name) {
            bail!("there is a saved chat {name} already; choose another name, or /load it");
        }
        // The title that the page has given it.
        let title = chats.load(&name).ok().and_then(|chat| chat.title);
        let chat = SavedChat {
            title,
            settings: json!(self.settings).as_object().cloned(),
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
            settings,
            messages,
            n_answers,
            ..
        } = self.saved_chats().load(&name)?;
        self.with_saved(settings.unwrap_or_default())
            .and_then(|settings| self.adopt(settings))
            .with_context(|| format!("the saved chat {name} cannot be used"))?;
        self.messages = messages;
        self.n_answers = n_answers;
        self.given = None;
        say!("[loaded {name}: {} messages]", self.messages.len());
        self.saved_as = Some(name);
        Ok(())
    }

    /// The settings in force, with those that a chat was saved with in their places.
    fn with_saved(&self, saved: Map<String, Value>) -> Result<ChatSettings> {
        let mut settings = json!(self.settings);
        for (name, value) in saved {
            settings[name] = value;
        }
        let settings: ChatSettings = serde_json::from_value(settings)?;
        // Without an adapter there is nothing to scale; a chat that was saved so keeps the scale in force.
        let scale = self.settings.scale.map(|now| settings.scale.unwrap_or(now));
        Ok(ChatSettings { scale, ..settings })
    }

    fn saved_chats(&self) -> SavedChats {
        let user = self.source.user();
        user.map_or_else(|| self.home.chats(), UserFolder::chats)
    }
}
