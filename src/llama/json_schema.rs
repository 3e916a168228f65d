//! The JSON schemas that llama.cpp's grammars hold. llama.cpp drops what it cannot express, so that an answer could break
//! the schema; here, that is an error which names the keyword and its place.

pub(super) mod counts;
mod pattern;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// The keywords that restrict values, each with the type of the values that it restricts; `any` for all. Other keywords
/// are annotations.
const KEYWORDS: &[(&str, &str)] = &[
    ("$dynamicRef", "any"),
    ("$recursiveRef", "any"),
    ("$ref", "any"),
    ("allOf", "any"),
    ("anyOf", "any"),
    ("const", "any"),
    ("else", "any"),
    ("enum", "any"),
    ("if", "any"),
    ("not", "any"),
    ("oneOf", "any"),
    ("then", "any"),
    ("type", "any"),
    ("exclusiveMaximum", "number"),
    ("exclusiveMinimum", "number"),
    ("maximum", "number"),
    ("minimum", "number"),
    ("multipleOf", "number"),
    ("format", "string"),
    ("maxLength", "string"),
    ("minLength", "string"),
    ("pattern", "string"),
    ("additionalItems", "array"),
    ("contains", "array"),
    ("items", "array"),
    ("maxContains", "array"),
    ("maxItems", "array"),
    ("minContains", "array"),
    ("minItems", "array"),
    ("prefixItems", "array"),
    ("unevaluatedItems", "array"),
    ("uniqueItems", "array"),
    ("additionalProperties", "object"),
    ("dependencies", "object"),
    ("dependentRequired", "object"),
    ("dependentSchemas", "object"),
    ("maxProperties", "object"),
    ("minProperties", "object"),
    ("patternProperties", "object"),
    ("properties", "object"),
    ("propertyNames", "object"),
    ("required", "object"),
    ("unevaluatedProperties", "object"),
];

/// The formats of texts that llama.cpp has rules for.
const FORMATS: &[&str] = &[
    "date",
    "time",
    "date-time",
    "uuid",
    "uuid1",
    "uuid2",
    "uuid3",
    "uuid4",
    "uuid5",
];

/// The most repetitions that a grammar has.
const MAX_COUNT: u64 = 2000;

/// The most items of an array. llama.cpp counts two more rules for the list around them.
const MAX_ITEMS: u64 = MAX_COUNT - 2;

/// The most properties of an object that may be left out. The time that llama.cpp takes grows with their third power.
const MAX_OPTIONAL: usize = 200;

/// The longest name of a property, in characters. llama.cpp recurses at each character of a name.
const MAX_NAME: usize = 128;

/// The longest reference, in bytes, for the same reason.
const MAX_REFERENCE: usize = 512;

/// The bounds of integers that a grammar holds, which writes numbers of at most 16 digits.
const MAX_BOUND: f64 = 1e15;

/// Checks that the grammar of `schema` holds all of it.
///
/// # Errors
///
/// The first keyword that it does not hold, and its place.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let mut checker = Checker {
        root: schema,
        seen: BTreeMap::new(),
        waiting: Vec::new(),
    };
    checker.node(schema, "#")?;
    while let Some(pointer) = checker.waiting.pop() {
        checker.node(resolve(schema, &pointer)?, &pointer)?;
    }
    Ok(())
}

struct Checker<'a> {
    root: &'a Value,
    /// The references that were met, by the names that llama.cpp gives to their rules.
    seen: BTreeMap<String, String>,
    /// Those of them whose schemas are not checked yet.
    waiting: Vec<String>,
}

impl Checker<'_> {
    /// Checks the schema at `path`. It follows llama.cpp: a reference comes first, then alternatives, then the types.
    fn node(&mut self, schema: &Value, path: &str) -> Result<(), String> {
        let Some(map) = schema.as_object() else {
            return Err(format!("the schema at {path:?} has to be an object"));
        };
        if let Some(reference) = map.get("$ref") {
            only(map, &["$ref"], "any", path)?;
            let pointer = reference.as_str().unwrap_or_default();
            resolve(self.root, pointer)?;
            return self.refer(pointer);
        }
        if let Some(key) = ["oneOf", "anyOf"]
            .into_iter()
            .find(|it| map.contains_key(*it))
        {
            return self.alternatives(map, key, path);
        }
        match map.get("type") {
            None => self.typed(map, None, path),
            Some(Value::String(kind)) => self.typed(map, Some(kind), path),
            Some(Value::Array(kinds)) => {
                let mut kinds = kinds.iter().map(|it| it.as_str().unwrap_or_default());
                kinds.try_for_each(|kind| self.typed(map, Some(kind), path))
            }
            Some(_) => Err(format!(
                "`type` at {path:?} has to be a text or a list of texts"
            )),
        }
    }

    /// Notes a reference, whose schema is checked later. Two schemas whose rules llama.cpp would call by one name are refused,
    /// since it would take the first for both.
    fn refer(&mut self, pointer: &str) -> Result<(), String> {
        match self.seen.get(&rule_name(pointer)) {
            Some(other) if other == pointer => {}
            Some(other) => {
                return Err(format!(
                    "`$ref` cannot tell {pointer:?} from {other:?}: rename one with letters and digits"
                ));
            }
            None => {
                self.seen.insert(rule_name(pointer), pointer.to_owned());
                self.waiting.push(pointer.to_owned());
            }
        }
        Ok(())
    }

    fn alternatives(&mut self, map: &Object, key: &str, path: &str) -> Result<(), String> {
        let schemas = list(map, key, path)?;
        // A type beside the alternatives says nothing where each of them has it.
        if schemas.iter().all(|it| it.get("type") == map.get("type")) {
            only(map, &[key, "type"], "any", path)?;
        } else {
            only(map, &[key], "any", path)?;
        }
        self.each(schemas, &format!("{path}/{key}"))
    }

    fn each(&mut self, schemas: &[Value], path: &str) -> Result<(), String> {
        let mut numbered = schemas.iter().enumerate();
        numbered.try_for_each(|(number, it)| self.node(it, &format!("{path}/{number}")))
    }

    /// Checks a schema without reference and alternatives, for values of the type `kind`, which is inferred if it is not
    /// given.
    fn typed(&mut self, map: &Object, kind: Option<&str>, path: &str) -> Result<(), String> {
        let has = |key: &str| map.contains_key(key);
        if let Some(key) = ["const", "enum"].into_iter().find(|it| has(it)) {
            return only(map, &["type", key], kind.unwrap_or("any"), path);
        }
        let kind = kind.unwrap_or_else(|| inferred(map));
        match kind {
            "any" | "string" if has("allOf") => self.all_of(map, kind, path),
            "object" if has("allOf") && !has_properties(map) => self.all_of(map, kind, path),
            "object" => self.object(map, path),
            "array" => self.array(map, path),
            "string" => string(map, path),
            "integer" => integer(map, path),
            "number" | "boolean" | "null" | "any" => only(map, &["type"], kind, path),
            kind => Err(format!("the type {kind:?} at {path:?} is not known")),
        }
    }

    fn object(&mut self, map: &Object, path: &str) -> Result<(), String> {
        let mut held = vec!["type", "properties", "required", "additionalProperties"];
        if ["properties", "additionalProperties"]
            .into_iter()
            .any(|it| map.contains_key(it))
        {
            // No property is left that these two do not evaluate.
            held.push("unevaluatedProperties");
        }
        only(map, &held, "object", path)?;
        let none = Object::new();
        let properties = match map.get("properties") {
            None => &none,
            Some(Value::Object(properties)) => properties,
            Some(_) => return Err(format!("`properties` at {path:?} has to be an object")),
        };
        let required = list(map, "required", path)?;
        for name in required {
            if !name.as_str().is_some_and(|it| properties.contains_key(it)) {
                return Err(format!(
                    "`required` at {path:?} names {name}, which `properties` does not have"
                ));
            }
        }
        let required: BTreeSet<_> = required.iter().filter_map(Value::as_str).collect();
        let is_optional = |name: &&String| !required.contains(name.as_str());
        let n_optional = properties.keys().filter(is_optional).count();
        if n_optional > MAX_OPTIONAL {
            return Err(format!(
                "the object at {path:?} has {n_optional} properties that `required` does not name, and at most {MAX_OPTIONAL} are supported"
            ));
        }
        for (name, schema) in properties {
            property_name(name, path)?;
            self.node(schema, &format!("{path}/properties/{name}"))?;
        }
        match map.get("additionalProperties") {
            None | Some(Value::Bool(_)) => Ok(()),
            Some(schema) => self.node(schema, &format!("{path}/additionalProperties")),
        }
    }

    fn array(&mut self, map: &Object, path: &str) -> Result<(), String> {
        let mut keys = ["items", "prefixItems"].into_iter();
        let Some(key) = keys.find(|it| map.contains_key(*it)) else {
            only(map, &["type", "minItems", "maxItems"], "array", path)?;
            return item_counts(map, path);
        };
        item_counts(map, path)?;
        let Value::Array(items) = &map[key] else {
            only(map, &["type", key, "minItems", "maxItems"], "array", path)?;
            return self.node(&map[key], &format!("{path}/{key}"));
        };
        // An array of exactly these items.
        let n = items.len() as u64;
        let mut held = vec!["type", key, "additionalItems"];
        if count(map, "minItems", path)?.is_none_or(|least| least <= n) {
            held.push("minItems");
        }
        if count(map, "maxItems", path)?.is_none_or(|most| most >= n) {
            held.push("maxItems");
        }
        only(map, &held, "array", path)?;
        self.each(items, &format!("{path}/{key}"))
    }

    /// Checks schemas that hold together. llama.cpp joins the properties of objects, and takes the values of one `enum`.
    fn all_of(&mut self, map: &Object, kind: &str, path: &str) -> Result<(), String> {
        only(map, &["type", "allOf"], kind, path)?;
        let schemas = list(map, "allOf", path)?;
        let path = format!("{path}/allOf");
        let mut names = BTreeSet::new();
        for (number, schema) in schemas.iter().enumerate() {
            let schema = target(self.root, schema)?;
            let is_enum = schema.get("enum").is_some() && schema.get("const").is_none();
            if is_enum && schemas.len() == 1 {
                continue;
            }
            let is_object = schema.get("properties").is_some() && !is_enum;
            let others = ["const", "oneOf", "anyOf", "allOf"];
            if !is_object || others.into_iter().any(|it| schema.get(it).is_some()) {
                return Err(format!(
                    "the schema at \"{path}/{number}\" is not supported: only objects with `properties` can be joined"
                ));
            }
            for name in schema["properties"]
                .as_object()
                .into_iter()
                .flat_map(Map::keys)
            {
                property_name(name, path.trim_end_matches("/allOf"))?;
                if !names.insert(name) {
                    return Err(format!(
                        "two schemas at {path:?} have the property {name:?}"
                    ));
                }
            }
        }
        self.each(schemas, &path)
    }
}

/// Checks the name of a property of the object at `path`.
fn property_name(name: &str, path: &str) -> Result<(), String> {
    let refuse = |what: String| {
        Err(format!(
            "{what} in `properties` at {path:?} is not supported"
        ))
    };
    // llama.cpp calls the rule of the first like that of the whole schema, and that of the second like that of all further
    // properties.
    if (name.is_empty() && path == "#") || name == "*" {
        return refuse(format!("the name {name:?}"));
    }
    if name.chars().count() > MAX_NAME {
        return refuse(format!("a name of more than {MAX_NAME} characters"));
    }
    Ok(())
}

/// The name of the rule that llama.cpp makes of the schema at `pointer`, in which a hyphen stands for all other characters
/// in a row.
fn rule_name(pointer: &str) -> String {
    let mut name = String::new();
    for c in pointer.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '-' };
        let repeats = c == '-' && name.ends_with('-');
        if !repeats {
            name.push(c);
        }
    }
    name
}

/// The schema that `schema` refers to, or itself.
fn target<'a>(root: &'a Value, mut schema: &'a Value) -> Result<&'a Value, String> {
    // More references in a row than this go round in a circle.
    for _ in 0..MAX_COUNT {
        let Some(pointer) = schema.get("$ref") else {
            return Ok(schema);
        };
        schema = resolve(root, pointer.as_str().unwrap_or_default())?;
    }
    Err("`$ref` refers to itself".to_owned())
}

/// The type of the values of a schema that names none.
fn inferred(map: &Object) -> &'static str {
    let has = |keys: &[&str]| keys.iter().any(|it| map.contains_key(*it));
    if has_properties(map) {
        "object"
    } else if has(&["allOf"]) {
        "any"
    } else if has(&["items", "prefixItems"]) {
        "array"
    } else if has(&["pattern", "minLength", "maxLength"]) || has_format(map) {
        "string"
    } else {
        "any"
    }
}

fn has_properties(map: &Object) -> bool {
    let additional = map.get("additionalProperties");
    map.contains_key("properties") || additional.is_some_and(|it| it != true)
}

/// Checks that each keyword of `map` that restricts values of the type `kind` is one of those that are `held`.
fn only(map: &Object, held: &[&str], kind: &str, path: &str) -> Result<(), String> {
    let kind = if kind == "integer" { "number" } else { kind };
    let restricts = |of: &str| of == "any" || kind == "any" || of == kind;
    let is_dropped = |name: &str, value: &Value| {
        let known = KEYWORDS.iter().find(|(keyword, _)| *keyword == name);
        let allows_all = match name {
            "uniqueItems" => value == false,
            "unevaluatedProperties" | "unevaluatedItems" => value == true,
            "minProperties" | "minContains" => value == 0,
            _ => false,
        };
        known.is_some_and(|(_, of)| restricts(of)) && !held.contains(&name) && !allows_all
    };
    match map.iter().find(|(name, value)| is_dropped(name, value)) {
        None => Ok(()),
        Some((name, _)) => Err(format!(
            "the keyword `{name}` at {path:?} is not supported here, and answers could break it"
        )),
    }
}

fn string(map: &Object, path: &str) -> Result<(), String> {
    match map.get("pattern") {
        Some(Value::String(pattern)) if !pattern.is_empty() => {
            only(map, &["type", "pattern"], "string", path)?;
            return pattern::check(pattern).map_err(|reason| {
                format!(
                    "the keyword `pattern` at {path:?} is not supported with {pattern:?}: {reason}"
                )
            });
        }
        None | Some(Value::String(_)) => {}
        Some(_) => return Err(format!("`pattern` at {path:?} has to be a text")),
    }
    if has_format(map) {
        return only(map, &["type", "pattern", "format"], "string", path);
    }
    if let Some(format) = map.get("format") {
        return Err(format!(
            "the keyword `format` at {path:?} is not supported with {format}, only with date, time, date-time and uuid"
        ));
    }
    only(
        map,
        &["type", "pattern", "minLength", "maxLength"],
        "string",
        path,
    )?;
    counts(map, "minLength", "maxLength", path)
}

fn has_format(map: &Object) -> bool {
    let format = map.get("format").and_then(Value::as_str);
    format.is_some_and(|it| FORMATS.contains(&it))
}

fn integer(map: &Object, path: &str) -> Result<(), String> {
    let first = |keys: [&'static str; 2]| {
        let mut keys = keys.into_iter();
        keys.find(|it| map.contains_key(*it))
    };
    let least = first(["minimum", "exclusiveMinimum"]);
    let most = first(["maximum", "exclusiveMaximum"]);
    let held: Vec<_> = ["type"].into_iter().chain(least).chain(most).collect();
    only(map, &held, "integer", path)?;
    let bound = |key: Option<&'static str>| {
        let Some(key) = key else {
            return Ok(None);
        };
        let value = map[key].as_f64().filter(|it| it.abs() <= MAX_BOUND);
        let wrong = || format!("`{key}` at {path:?} has to be a number within ±{MAX_BOUND:e}");
        value.map(|it| Some((key, it))).ok_or_else(wrong)
    };
    match (bound(least)?, bound(most)?) {
        (Some(least), Some(most)) if first_from(least) > last_to(most) => {
            Err(format!("no integer is in the range at {path:?}"))
        }
        // llama.cpp's rules for numbers of any length lose zeros inside a bound.
        (Some((key, least)), None) if loses_zeros(key, least) => Err(format!(
            "the keyword `{key}` at {path:?} is not supported with {least} and without a `maximum`"
        )),
        (None, Some((key, most))) if most < 0.0 => Err(format!(
            "the keyword `{key}` at {path:?} is not supported with {most} and without a `minimum`"
        )),
        _ => Ok(()),
    }
}

/// The least integer that a lower bound allows.
fn first_from((key, bound): (&str, f64)) -> f64 {
    match key {
        "minimum" => bound.ceil(),
        _ => bound.floor() + 1.0,
    }
}

/// The greatest integer that an upper bound allows.
fn last_to((key, bound): (&str, f64)) -> f64 {
    match key {
        "maximum" => bound.floor(),
        _ => bound.ceil() - 1.0,
    }
}

/// Whether a bound that no other bound meets has a zero after its first digit that other digits follow.
fn loses_zeros(key: &str, bound: f64) -> bool {
    let least = first_from((key, bound));
    let digits = (least.max(0.0) as u64).to_string();
    digits.len() > 2 && digits[1..digits.len() - 1].contains('0')
}

/// Checks the bounds of a number of items.
fn item_counts(map: &Object, path: &str) -> Result<(), String> {
    counts(map, "minItems", "maxItems", path)?;
    for key in ["minItems", "maxItems"] {
        if let Some(n) = count(map, key, path)?.filter(|it| *it > MAX_ITEMS) {
            return Err(format!(
                "`{key}` at {path:?} is at most {MAX_ITEMS}, not {n}"
            ));
        }
    }
    Ok(())
}

/// Checks the bounds of a number of items or characters.
fn counts(map: &Object, least: &str, most: &str, path: &str) -> Result<(), String> {
    match (count(map, least, path)?, count(map, most, path)?) {
        (Some(n_least), Some(n_most)) if n_least > n_most => {
            Err(format!("`{least}` at {path:?} is larger than `{most}`"))
        }
        _ => Ok(()),
    }
}

fn count(map: &Object, key: &str, path: &str) -> Result<Option<u64>, String> {
    let Some(value) = map.get(key) else {
        return Ok(None);
    };
    // Some programs write whole numbers as `2.0`.
    let count = value.as_f64().filter(|it| it.fract() == 0.0);
    let count = count.filter(|it| (0.0..=MAX_COUNT as f64).contains(it));
    count.map(|it| Some(it as u64)).ok_or_else(|| {
        format!("`{key}` at {path:?} has to be a whole number from 0 to {MAX_COUNT}, not {value}")
    })
}

/// The list under `key`, which is empty if there is none.
fn list<'a>(map: &'a Object, key: &str, path: &str) -> Result<&'a [Value], String> {
    match map.get(key) {
        None => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(format!("`{key}` at {path:?} has to be a list")),
    }
}

/// The schema that `$ref: pointer` means, as llama.cpp follows it: a path in the same document.
fn resolve<'a>(root: &'a Value, pointer: &str) -> Result<&'a Value, String> {
    let unresolved = || format!("`$ref` to {pointer:?} leads to no schema of this document");
    if pointer.len() > MAX_REFERENCE {
        return Err(format!(
            "a `$ref` of more than {MAX_REFERENCE} bytes is not supported"
        ));
    }
    let path = pointer.strip_prefix("#/").ok_or_else(unresolved)?;
    let step = |schema: &'a Value, name: &str| match schema {
        Value::Array(items) => name.parse().ok().and_then(|it: usize| items.get(it)),
        schema => schema.get(name),
    };
    path.split('/').try_fold(root, step).ok_or_else(unresolved)
}

#[cfg(test)]
mod tests;
