//! The fields of a request's body, read one by one: an error names its field by its path, and what no code has read is
//! refused by name instead of dropped.

mod repeated_key;

use std::collections::BTreeMap;
use std::fmt::Display;

use serde_json::Value;
use serde_json::value::RawValue;

use super::api_error::ApiError;
use super::harmless::Harmless;

/// A request that is made of fields.
pub trait FromFields: Sized {
    /// Reads the fields of a body.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] for a field that is missing, has another type, or is not known.
    fn from_fields(fields: Fields) -> Result<Self, ApiError>;
}

/// The fields of an object that have not been read yet. A field that is null counts as one that is not given.
pub struct Fields {
    /// The object's path in the body; empty for the body itself.
    path: String,
    rest: BTreeMap<String, Field>,
}

/// A value with its path in the body, as the client wrote it.
pub struct Field {
    path: String,
    text: Box<RawValue>,
}

impl Fields {
    /// The fields of a body.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid`] when the body is no JSON object; [`ApiError::invalid_field`] when an object in it has a key
    /// twice.
    pub fn of_body(body: &[u8]) -> Result<Self, ApiError> {
        if let Some(path) = repeated_key::find(body) {
            let message = format!("`{path}` is there twice");
            return Err(ApiError::invalid_field(path, message));
        }
        let rest = serde_json::from_slice(body)
            .map_err(|error| ApiError::invalid(format!("the body: {error}")))?;
        Ok(Self::new(String::new(), rest))
    }

    fn new(path: String, rest: BTreeMap<String, Box<RawValue>>) -> Self {
        let given = rest.into_iter().filter(|(_, text)| text.get() != "null");
        let field = |(name, text): (String, Box<RawValue>)| {
            let path = path_of(&path, &name);
            (name, Field { path, text })
        };
        let rest = given.map(field).collect();
        Self { path, rest }
    }

    /// No fields yet: those of a request that asks for the same as another one, [`put`](Self::put) one by one.
    pub fn none() -> Self {
        Self::new(String::new(), BTreeMap::new())
    }

    /// Adds a field, if it is given, under the name `name`. Errors name it by the path that it had.
    pub fn put(&mut self, name: &str, field: Option<Field>) {
        if let Some(field) = field {
            self.rest.insert(name.to_owned(), field);
        }
    }

    /// The field `name`, if it is given.
    pub fn take(&mut self, name: &str) -> Option<Field> {
        self.rest.remove(name)
    }

    /// The field `name`.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when it is not given.
    pub fn need(&mut self, name: &str) -> Result<Field, ApiError> {
        self.take(name).ok_or_else(|| {
            let path = path_of(&self.path, name);
            let message = format!("`{path}` is missing");
            ApiError::invalid_field(path, message)
        })
    }

    /// The value of the field `name`, if it is given.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when it has another type.
    pub fn read<T: FieldType>(&mut self, name: &str) -> Result<Option<T>, ApiError> {
        self.take(name).map(|field| field.read()).transpose()
    }

    /// Checks that no field is left but those that are `harmless`. To be called once all others are read.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] naming the first that is not.
    pub fn finish(self, harmless: &Harmless) -> Result<(), ApiError> {
        for (name, field) in self.rest {
            if let Err(reason) = harmless.allows(&name, &field.value()?) {
                return Err(field.wrong(reason));
            }
        }
        Ok(())
    }
}

/// The path of the field `name` of the object at `path`.
fn path_of(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

impl Field {
    /// A field that stands for what the client wrote at `path`.
    pub fn new(path: &str, value: &Value) -> Self {
        let text = serde_json::value::to_raw_value(value).expect("a value is JSON");
        Self {
            path: path.to_owned(),
            text,
        }
    }

    /// An error of this field, whose message follows its name.
    pub fn wrong(&self, what: impl Display) -> ApiError {
        let message = format!("`{}` {what}", self.path);
        ApiError::invalid_field(self.path.clone(), message)
    }

    /// The JSON text of the value, in the client's own order of keys.
    pub fn text(&self) -> &str {
        self.text.get()
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when it is nested too deeply, or holds text that is no Unicode.
    pub fn value(&self) -> Result<Value, ApiError> {
        serde_json::from_str(self.text.get())
            .map_err(|error| self.wrong(format!("cannot be read: {error}")))
    }

    /// The value as a `T`.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when it has another type.
    pub fn read<T: FieldType>(&self) -> Result<T, ApiError> {
        let value = self.value()?;
        T::of(&value).ok_or_else(|| self.not_a(T::kind(&value), &value))
    }

    /// The elements of a list.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when it is no list.
    pub fn items(&self) -> Result<Vec<Self>, ApiError> {
        let texts: Vec<Box<RawValue>> = self.parts("a list")?;
        let item = |(number, text)| Self {
            path: format!("{}[{number}]", self.path),
            text,
        };
        Ok(texts.into_iter().enumerate().map(item).collect())
    }

    /// The fields of an object.
    ///
    /// # Errors
    ///
    /// [`ApiError::invalid_field`] when it is no object.
    pub fn fields(&self) -> Result<Fields, ApiError> {
        let rest = self.parts("an object")?;
        Ok(Fields::new(self.path.clone(), rest))
    }

    fn parts<'a, T: serde::Deserialize<'a>>(&'a self, kind: &str) -> Result<T, ApiError> {
        match serde_json::from_str(self.text.get()) {
            Ok(parts) => Ok(parts),
            Err(_) => Err(self.not_a(kind, &self.value()?)),
        }
    }

    /// The error of a value that is not of the wanted `kind`.
    pub fn not_a(&self, kind: &str, value: &Value) -> ApiError {
        let given = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Number(value) => value.to_string(),
            Value::String(_) => "a text".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "an object".to_owned(),
        };
        self.wrong(format!("has to be {kind}, not {given}"))
    }
}

/// A type of a field.
pub trait FieldType: Sized {
    /// The type in the words of an error.
    const KIND: &'static str;
    /// The value, if it has this type.
    fn of(value: &Value) -> Option<Self>;
    /// The description of a `value` that would be of this type, for an error about one that is not.
    fn kind(_value: &Value) -> &'static str {
        Self::KIND
    }
}

/// The description of an integer, for an error about a whole number that is out of its range.
const WITHIN_RANGE: &str = "a whole number of at most 15 digits";

/// Whether a number has no fraction.
fn is_whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|it| it.fract() == 0.0)
}

impl FieldType for bool {
    const KIND: &'static str = "true or false";

    fn of(value: &Value) -> Option<Self> {
        value.as_bool()
    }
}

impl FieldType for i64 {
    const KIND: &'static str = "a whole number";

    /// A whole number, which some clients write as `4.0`.
    fn of(value: &Value) -> Option<Self> {
        /// The largest whole number up to which a double holds each one.
        const EXACT: f64 = (1_u64 << 53) as f64;
        let whole = |number: f64| {
            let is_whole = number.fract() == 0.0 && number.abs() <= EXACT;
            is_whole.then_some(number as Self)
        };
        value.as_i64().or_else(|| value.as_f64().and_then(whole))
    }

    fn kind(value: &Value) -> &'static str {
        if is_whole(value) {
            WITHIN_RANGE
        } else {
            Self::KIND
        }
    }
}

impl FieldType for usize {
    const KIND: &'static str = "a whole number from 0 on";

    fn of(value: &Value) -> Option<Self> {
        i64::of(value).and_then(|number| Self::try_from(number).ok())
    }

    fn kind(value: &Value) -> &'static str {
        let is_negative = value.as_f64().is_some_and(|it| it < 0.0);
        if is_whole(value) && !is_negative {
            WITHIN_RANGE
        } else {
            Self::KIND
        }
    }
}

impl FieldType for f32 {
    const KIND: &'static str = "a number";

    fn of(value: &Value) -> Option<Self> {
        value.as_f64().map(|number| number as Self)
    }
}

impl FieldType for String {
    const KIND: &'static str = "a text";

    fn of(value: &Value) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Fields {
        Fields::of_body(body.as_bytes()).unwrap()
    }

    /// The field at fault and the message.
    fn told<T>(result: Result<T, ApiError>) -> (String, String) {
        let error = result.err().expect("an error");
        (error.param.unwrap().into_owned(), error.message)
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction_of_0() {
        for (text, number) in [
            ("4", Some(4)),
            ("4.0", Some(4)),
            ("-1.0", Some(-1)),
            ("4e2", Some(400)),
        ] {
            let mut fields = fields(&format!("{{\"top_k\": {text}}}"));
            assert_eq!(fields.read::<i64>("top_k").unwrap(), number, "{text}");
        }
        for text in ["4.5", "\"4\"", "true"] {
            let mut fields = fields(&format!("{{\"top_k\": {text}}}"));
            let (param, message) = told(fields.read::<i64>("top_k"));
            assert_eq!(param, "top_k");
            assert!(
                message.starts_with("`top_k` has to be a whole number, not "),
                "{message}"
            );
        }
        for text in ["1e+300", "18446744073709551615"] {
            let body = format!("{{\"top_k\": {text}}}");
            let expected =
                format!("`top_k` has to be a whole number of at most 15 digits, not {text}");
            assert_eq!(told(fields(&body).read::<i64>("top_k")).1, expected);
            assert_eq!(told(fields(&body).read::<usize>("top_k")).1, expected);
        }
        let negative = told(fields("{\"n\": -1}").read::<usize>("n")).1;
        assert_eq!(negative, "`n` has to be a whole number from 0 on, not -1");
    }

    #[test]
    fn a_field_that_is_null_is_not_given() {
        let mut fields = fields("{\"stop\": null, \"unknown\": null}");
        assert_eq!(fields.read::<String>("stop").unwrap(), None);
        assert_eq!(
            told(fields.need("stop")),
            ("stop".into(), "`stop` is missing".into())
        );
        fields.finish(&Harmless::NONE).unwrap();
    }

    #[test]
    fn an_error_names_the_path_of_its_field() {
        let mut body = fields(r#"{"messages": [{"role": "user"}, {"role": 3, "mood": 1}]}"#);
        let messages = body.take("messages").unwrap().items().unwrap();
        let mut second = messages[1].fields().unwrap();
        let expected = "`messages[1].role` has to be a text, not 3";
        assert_eq!(
            told(second.read::<String>("role")),
            ("messages[1].role".into(), expected.into())
        );
        let (param, message) = told(second.finish(&Harmless::NONE));
        assert_eq!(param, "messages[1].mood");
        assert!(
            message.starts_with("`messages[1].mood` is not a field"),
            "{message}"
        );
        let list = told(fields("{\"stop\": 3}").take("stop").unwrap().items());
        assert_eq!(list.1, "`stop` has to be a list, not 3");
    }

    #[test]
    fn a_key_that_is_there_twice_is_named_by_its_path() {
        for (body, path) in [
            (r#"{"n": 1, "m": {}, "n": 1}"#, "n"),
            (r#"{"a": [1, {"b": {"c": 1, "c": null}}]}"#, "a[1].b.c"),
            (r#"{"a": 1, "\u0061": 2}"#, "a"),
        ] {
            let (param, message) = told(Fields::of_body(body.as_bytes()));
            assert_eq!(param, path);
            assert_eq!(message, format!("`{path}` is there twice"));
        }
        fields(r#"{"a": {"a": [{"a": 1}, {"a": 1}]}, "b": 1}"#);
    }

    #[test]
    fn a_text_keeps_the_order_of_its_keys() {
        let field = fields(r#"{"schema": {"z": 1, "a": 2}}"#).take("schema");
        assert_eq!(field.unwrap().text(), r#"{"z": 1, "a": 2}"#);
    }
}
