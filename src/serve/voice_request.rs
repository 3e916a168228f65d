//! The voice that a request asks for: which user's adapter, at which scale, and which of the three arms.

use serde::Deserialize;

use super::api_error::ApiError;
use super::auth::Caller;
use super::fields::{Field, Fields};
use super::harmless::Harmless;
use crate::decode::ArmKind;
use crate::home::{Home, UserFolder, UserName};

/// The largest factor by which an adapter's effect can be multiplied.
const MAX_SCALE: f32 = 4.0;

/// The fields of a request that say in whose voice it is answered.
#[derive(Debug)]
pub struct VoiceFields {
    /// `base` or the base's own name, a user's name, or both as `base:user`.
    pub model: Option<String>,
    /// A user's name, where `model` names no user. A name that no user has is ignored.
    pub user: Option<String>,
    /// Adapters by their numbers, as llama-server has them; where `model` names a user, that user's alone.
    pub lora: Option<Vec<LoraRequest>>,
    /// The factor by which the adapter's effect is multiplied, where `lora` gives none.
    pub scale: Option<f32>,
    /// The arm; without it CoPe for a user, and the base without one.
    pub arm: Option<ArmKind>,
    /// α, the strength of CoPe's contrast; without it the adapter's own.
    pub contrast: Option<f32>,
    /// τ, the least plausibility of a candidate; without it the adapter's own.
    pub plausibility: Option<f32>,
}

/// An adapter by its number in `/lora-adapters`.
#[derive(Debug)]
pub struct LoraRequest {
    /// The adapter's number.
    pub id: usize,
    /// The factor by which its effect is multiplied; 0 switches it off.
    pub scale: f32,
}

/// The voice of a text, as the engine takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct VoiceRequest {
    /// The user whose adapter is loaded; `None` for the base alone.
    pub user: Option<UserName>,
    /// The factor by which the adapter's effect is multiplied.
    pub scale: f32,
    /// The arm: base, user or CoPe.
    pub arm: ArmKind,
    /// α, if the request gives one.
    pub contrast: Option<f32>,
    /// τ, if the request gives one.
    pub plausibility: Option<f32>,
}

/// The voice of a request, and the name by which the answer calls it.
#[derive(Clone, Debug)]
pub struct ResolvedVoice {
    /// The name that the client gave, else that of the user or the base.
    pub name: String,
    /// The voice as the engine takes it.
    pub request: VoiceRequest,
}

impl VoiceFields {
    /// Reads the fields.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when one has another type.
    pub fn read(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self {
            model: fields.read("model")?,
            user: fields.read("user")?,
            lora: fields.take("lora").as_ref().map(lora).transpose()?,
            scale: fields.read("scale")?,
            arm: fields.take("arm").as_ref().map(arm).transpose()?,
            contrast: fields.read("contrast")?,
            plausibility: fields.read("plausibility")?,
        })
    }

    /// The fields of a request that has a model's name alone.
    pub fn of_model(model: &str) -> Self {
        Self {
            model: Some(model.to_owned()),
            user: None,
            lora: None,
            scale: None,
            arm: None,
            contrast: None,
            plausibility: None,
        }
    }

    /// Whether neither the arm is given nor what only one of them has.
    pub fn leaves_the_arm_open(&self) -> bool {
        self.arm.is_none() && self.contrast.is_none() && self.plausibility.is_none()
    }

    /// The voice. `base_name` is the name of the base's file.
    ///
    /// # Errors
    ///
    /// [`ApiError::no_model`] for a model that does not exist or that the caller may not use; a field is out of its range,
    /// or contradicts another.
    pub fn resolve(
        &self,
        home: &Home,
        caller: &Caller,
        base_name: &str,
    ) -> Result<ResolvedVoice, ApiError> {
        let users = caller.users(home)?;
        let (user, scale) = self.adapter(&users, caller, base_name)?;
        let scale = self.own_scale(user)?.unwrap_or(scale);
        let arm = match (self.arm, user) {
            (Some(arm), _) => arm,
            (None, Some(_)) => ArmKind::Cope,
            (None, None) => ArmKind::Base,
        };
        if user.is_none() && arm != ArmKind::Base {
            return Err(ApiError::invalid_field(
                "arm",
                "only a user's model has this arm: name a user as the model",
            ));
        }
        self.check_contrast(arm)?;
        let model = self.model.as_deref().filter(|model| !model.is_empty());
        let name = model.unwrap_or_else(|| user.map_or(UserName::BASE, UserName::as_str));
        let request = VoiceRequest {
            user: user.cloned(),
            scale,
            arm,
            contrast: self.contrast,
            plausibility: self.plausibility,
        };
        Ok(ResolvedVoice {
            name: name.to_owned(),
            request,
        })
    }

    /// The field `scale`, which is for a user's adapter, and says what `lora` may say too.
    fn own_scale(&self, user: Option<&UserName>) -> Result<Option<f32>, ApiError> {
        let refuse = |message: &str| Err(ApiError::invalid_field("scale", message));
        match self.scale {
            None => Ok(None),
            Some(_) if user.is_none() => {
                refuse("only a user's model has an adapter to scale: name a user as the model")
            }
            Some(_) if self.lora.as_ref().is_some_and(|lora| !lora.is_empty()) => {
                refuse("the scale is that of `lora`: leave out one of both")
            }
            Some(scale) => check_scale("scale", scale).map(Some),
        }
    }

    /// Checks that α and τ are given to CoPe alone: the other arms have neither.
    fn check_contrast(&self, arm: ArmKind) -> Result<(), ApiError> {
        let fields = [
            ("contrast", self.contrast),
            ("plausibility", self.plausibility),
        ];
        let given = fields.into_iter().find(|(_, value)| value.is_some());
        match given {
            Some((param, _)) if arm != ArmKind::Cope => {
                let message = format!(
                    "`{param}` is for the arm `cope`, which a user's model has by default: name a user as the model, and leave `arm` out"
                );
                Err(ApiError::invalid_field(param, message))
            }
            _ => Ok(()),
        }
    }

    /// The user whose adapter is meant, among those that the caller may use, and the adapter's scale. `model` names the
    /// user, or else `lora`, or else `user`; a user's key without any of these stands for its user.
    fn adapter<'a>(
        &self,
        users: &'a [UserFolder],
        caller: &Caller,
        base_name: &str,
    ) -> Result<(Option<&'a UserName>, f32), ApiError> {
        let find = |name: &str| {
            let mut names = users.iter().map(|user| user.name());
            names.find(|it| it.as_str() == name)
        };
        let model = self.model.as_deref().unwrap_or_default();
        if let Some(name) = user_in_model(model, base_name) {
            let user = find(name).ok_or_else(|| ApiError::no_model(model))?;
            return Ok((Some(user), self.scale_of(user, users)?));
        }
        if let Some(lora) = &self.lora {
            return adapter_by_number(lora, users);
        }
        if let Some(user) = self.user.as_deref().and_then(find) {
            return Ok((Some(user), 1.0));
        }
        match caller {
            Caller::User(name) if model.is_empty() => Ok((find(name.as_str()), 1.0)),
            _ => Ok((None, 1.0)),
        }
    }

    /// The scale of the adapter of `user`, whom `model` names: 1, or that of `lora`, which may name no other user.
    fn scale_of(&self, user: &UserName, users: &[UserFolder]) -> Result<f32, ApiError> {
        let Some(lora) = self.lora.as_deref().filter(|lora| !lora.is_empty()) else {
            return Ok(1.0);
        };
        match adapter_by_number(lora, users)? {
            (Some(named), scale) if named == user => Ok(scale),
            _ => Err(ApiError::invalid_field(
                "lora",
                format!(
                    "`lora` does not name the adapter of `model`, {user}: leave out one of both"
                ),
            )),
        }
    }
}

/// Adapters by their numbers, each at the scale 1 unless it says another.
fn lora(field: &Field) -> Result<Vec<LoraRequest>, ApiError> {
    let adapter = |item: &Field| {
        let mut fields = item.fields()?;
        let adapter = LoraRequest {
            id: fields.need("id")?.read()?,
            scale: fields.read("scale")?.unwrap_or(1.0),
        };
        fields.finish(&Harmless::NONE)?;
        Ok(adapter)
    };
    field.items()?.iter().map(adapter).collect()
}

fn arm(field: &Field) -> Result<ArmKind, ApiError> {
    const ARMS: &str = "`base`, `user` or `cope`";
    let value = field.value()?;
    ArmKind::deserialize(&value).map_err(|_| match value.as_str() {
        Some(name) => field.wrong(format!("has to be {ARMS}, not {name:?}")),
        None => field.not_a(ARMS, &value),
    })
}

/// The name of the user in a model's name: `user` or `base:user`; `None` if the model is the base, or is not given.
fn user_in_model<'a>(model: &'a str, base_name: &str) -> Option<&'a str> {
    let is_base = |name: &str| name == UserName::BASE || name == base_name;
    match model.split_once(':') {
        Some((base, user)) if is_base(base) => Some(user),
        _ => Some(model).filter(|model| !model.is_empty() && !is_base(model)),
    }
}

/// The user of the one adapter in `lora` whose scale is not 0, and that scale.
fn adapter_by_number<'a>(
    lora: &[LoraRequest],
    users: &'a [UserFolder],
) -> Result<(Option<&'a UserName>, f32), ApiError> {
    let refuse = |message: &str| Err(ApiError::invalid_field("lora", message));
    let mut wanted = lora.iter().filter(|lora| lora.scale != 0.0);
    let lora = match (wanted.next(), wanted.next()) {
        (None, _) => return Ok((None, 1.0)),
        (Some(lora), None) => lora,
        (Some(_), Some(_)) => return refuse("only one adapter can be used at a time"),
    };
    let Some(user) = users.get(lora.id) else {
        return refuse("there is no adapter of that number for this key");
    };
    Ok((Some(user.name()), check_scale("lora", lora.scale)?))
}

/// The scale of an adapter in the field `param`, if it can be one.
fn check_scale(param: &'static str, scale: f32) -> Result<f32, ApiError> {
    if !(0.0..=MAX_SCALE).contains(&scale) {
        let message = format!("an adapter's scale is 0 to {MAX_SCALE}");
        return Err(ApiError::invalid_field(param, message));
    }
    Ok(scale)
}
