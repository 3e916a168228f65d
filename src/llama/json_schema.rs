//! The JSON schemas that llama.cpp's grammars hold. llama.cpp drops what it cannot express, so that an answer could break
//! the schema; here, that is an error which names the keyword and its place.

pub(super) mod counts;
mod pattern;
mod place;
mod range;

use std::collections::{BTreeMap, BTreeSet};

use place::SchemaPlace;
pub(super) use place::check_built_in;
use range::{count, counts, integer, item_counts};
use serde_json::{Map, Value};

pub(super) type Object = Map<String, Value>;

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

/// The most properties of an object that may be left out. The time that llama.cpp takes grows with their third power.
const MAX_OPTIONAL: usize = 200;

/// The longest name of a property, in characters. llama.cpp recurses at each character of a name.
const MAX_NAME: usize = 128;

/// The longest reference, in bytes, for the same reason.
const MAX_REFERENCE: usize = 512;

/// The most schemas, which schemas that are joined repeatedly count as often.
const MAX_SCHEMAS: usize = 50_000;

/// Checks that the grammar of `schema` holds all of it.
///
/// # Errors
///
/// The first keyword that it does not hold, and its place.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    let mut checker = Checker {
        root: schema,
        joined: Vec::new(),
        n_schemas: 0,
        seen: BTreeMap::new(),
        waiting: Vec::new(),
        made: BTreeMap::new(),
    };
    checker.node(schema, &SchemaPlace::root())?;
    while let Some(pointer) = checker.waiting.pop() {
        checker.node(
            resolve(schema, &pointer)?,
            &SchemaPlace::of_reference(&pointer),
        )?;
    }
    checker.check_references()
}

struct Checker<'a> {
    root: &'a Value,
    /// The schemas of `allOf` around this place.
    joined: Vec<&'a Value>,
    n_schemas: usize,
    /// The references that were met, by the names that llama.cpp gives to their rules.
    seen: BTreeMap<String, String>,
    /// Those of them whose schemas are not checked yet.
    waiting: Vec<String>,
    /// The rules that llama.cpp makes of other schemas than those of references, each with the places that it is made of.
    made: BTreeMap<String, Vec<String>>,
}

impl<'a> Checker<'a> {
    /// Checks the schema at `place`. It follows llama.cpp: a reference comes first, then alternatives, then the types.
    fn node(&mut self, schema: &'a Value, place: &SchemaPlace) -> Result<(), String> {
        let path = place.path.as_str();
        self.n_schemas += 1;
        if self.n_schemas > MAX_SCHEMAS {
            return Err(format!(
                "it has more than {MAX_SCHEMAS} schemas, those that `allOf` repeats included"
            ));
        }
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
            return self.alternatives(map, key, place);
        }
        match map.get("type") {
            None => self.typed(map, None, place),
            Some(Value::String(kind)) => self.typed(map, Some(kind), place),
            Some(Value::Array(_)) => {
                let kinds = some(map, "type", path)?;
                let kinds = kinds.iter().map(|it| it.as_str().unwrap_or_default());
                kinds.enumerate().try_for_each(|(number, kind)| {
                    let of_kind = place.alternative("type", number);
                    self.note(of_kind.rule(), path);
                    // A message names the schema, which has all the types.
                    self.typed(map, Some(kind), &of_kind.at(path))
                })
            }
            Some(_) => Err(format!(
                "`type` at {path:?} has to be a text or a list of texts"
            )),
        }
    }

    /// Notes a reference, whose schema is checked later. Two schemas whose rules llama.cpp would call by one name are refused,
    /// since it would take the first for both.
    fn refer(&mut self, pointer: &str) -> Result<(), String> {
        let rule = SchemaPlace::of_reference(pointer).rule();
        match self.seen.get(&rule) {
            Some(other) if other == pointer => {}
            Some(other) => {
                return Err(confused(pointer, other));
            }
            None => {
                self.seen.insert(rule, pointer.to_owned());
                self.waiting.push(pointer.to_owned());
            }
        }
        Ok(())
    }

    /// Notes that llama.cpp makes a rule of the schema at `path`.
    fn note(&mut self, rule: String, path: &str) {
        self.made.entry(rule).or_default().push(path.to_owned());
    }

    /// Checks the schema at `place`, which is no reference's.
    fn below(&mut self, schema: &'a Value, place: &SchemaPlace) -> Result<(), String> {
        self.note(place.rule(), &place.path);
        self.node(schema, place)
    }

    /// Checks that llama.cpp takes no rule of another schema for that of a reference. Where it makes two rules of one name, the
    /// later one has a number after it.
    fn check_references(&self) -> Result<(), String> {
        for (rule, pointer) in &self.seen {
            let name = rule.trim_end_matches(|c: char| c.is_ascii_digit());
            let of = |name: &str| self.made.get(name).map_or(&[][..], Vec::as_slice);
            let n_same = of(name).len() + usize::from(self.seen.contains_key(name));
            let numbered = of(name).first().filter(|_| name != rule && n_same > 1);
            if let Some(other) = of(rule).first().or(numbered) {
                return Err(confused(pointer, other));
            }
        }
        Ok(())
    }

    fn alternatives(
        &mut self,
        map: &'a Object,
        key: &str,
        place: &SchemaPlace,
    ) -> Result<(), String> {
        let path = place.path.as_str();
        let schemas = some(map, key, path)?;
        // A type beside the alternatives says nothing where each of them has it.
        if schemas.iter().all(|it| it.get("type") == map.get("type")) {
            only(map, &[key, "type"], "any", path)?;
        } else {
            only(map, &[key], "any", path)?;
        }
        let mut numbered = schemas.iter().enumerate();
        numbered.try_for_each(|(number, it)| self.below(it, &place.alternative(key, number)))
    }

    /// Checks a schema without reference and alternatives, for values of the type `kind`, which is inferred if it is not
    /// given.
    fn typed(
        &mut self,
        map: &'a Object,
        kind: Option<&str>,
        place: &SchemaPlace,
    ) -> Result<(), String> {
        let path = place.path.as_str();
        let has = |key: &str| map.contains_key(key);
        if let Some(key) = ["const", "enum"].into_iter().find(|it| has(it)) {
            if key == "enum" {
                some(map, key, path)?;
            }
            return only(map, &["type", key], kind.unwrap_or("any"), path);
        }
        let kind = kind.unwrap_or_else(|| inferred(map));
        match kind {
            "any" | "string" if has("allOf") => self.all_of(map, kind, place),
            "object" if has("allOf") && !has_properties(map) => self.all_of(map, kind, place),
            "object" => self.object(map, place),
            "array" => self.array(map, place),
            "string" => self.string(map, place),
            "integer" => integer(map, path),
            "number" | "boolean" | "null" | "any" => only(map, &["type"], kind, path),
            kind => Err(format!("the type {kind:?} at {path:?} is not known")),
        }
    }

    fn object(&mut self, map: &'a Object, place: &SchemaPlace) -> Result<(), String> {
        let path = place.path.as_str();
        let mut held = vec!["type", "properties", "required", "additionalProperties"];
        if ["properties", "additionalProperties"]
            .into_iter()
            .any(|it| map.contains_key(it))
        {
            // No property is left that these two do not evaluate.
            held.push("unevaluatedProperties");
        }
        only(map, &held, "object", path)?;
        let properties = match map.get("properties") {
            None => None,
            Some(Value::Object(properties)) => Some(properties),
            Some(_) => return Err(format!("`properties` at {path:?} has to be an object")),
        };
        let required = list(map, "required", path)?;
        for name in required {
            let is_property = |it| properties.is_some_and(|all| all.contains_key(it));
            if !name.as_str().is_some_and(is_property) {
                return Err(format!(
                    "`required` at {path:?} names {name}, which `properties` does not have"
                ));
            }
        }
        let required: BTreeSet<_> = required.iter().filter_map(Value::as_str).collect();
        let is_optional = |name: &&String| !required.contains(name.as_str());
        let properties = || properties.into_iter().flatten();
        let n_optional = properties().map(|it| it.0).filter(is_optional).count();
        if n_optional > MAX_OPTIONAL {
            return Err(format!(
                "the object at {path:?} has {n_optional} properties that `required` does not name, and at most {MAX_OPTIONAL} are supported"
            ));
        }
        for (name, schema) in properties() {
            property_name(name, path)?;
            self.property(name, schema, place)?;
        }
        let further = |name| place.below("additionalProperties", name);
        for name in ["additional-k", "additional-kv"] {
            self.note(further(name).rule(), path);
        }
        match map.get("additionalProperties") {
            None | Some(Value::Bool(_)) => Ok(()),
            Some(schema) => self.below(schema, &further("additional-value")),
        }
    }

    fn property(
        &mut self,
        name: &str,
        schema: &'a Value,
        object: &SchemaPlace,
    ) -> Result<(), String> {
        let place = object.below(&format!("properties/{name}"), name);
        for more in ["kv", "rest"] {
            self.note(place.below("", more).rule(), &place.path);
        }
        self.below(schema, &place)
    }

    fn array(&mut self, map: &'a Object, place: &SchemaPlace) -> Result<(), String> {
        let path = place.path.as_str();
        let mut keys = ["items", "prefixItems"].into_iter();
        let Some(key) = keys.find(|it| map.contains_key(*it)) else {
            only(map, &["type", "minItems", "maxItems"], "array", path)?;
            return item_counts(map, path);
        };
        item_counts(map, path)?;
        let Value::Array(items) = &map[key] else {
            only(map, &["type", key, "minItems", "maxItems"], "array", path)?;
            return self.below(&map[key], &place.below(key, "item"));
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
        let mut numbered = items.iter().enumerate();
        numbered.try_for_each(|(number, it)| {
            let name = format!("tuple-{number}");
            self.below(it, &place.below(&format!("{key}/{number}"), &name))
        })
    }

    fn string(&mut self, map: &Object, place: &SchemaPlace) -> Result<(), String> {
        let pattern = map.get("pattern").and_then(Value::as_str);
        // llama.cpp may make a rule of each part that has counts.
        for number in 1..=pattern.map_or(0, |it| it.matches('{').count()) {
            self.note(place.below("", &number.to_string()).rule(), &place.path);
        }
        string(map, &place.path)
    }

    /// Checks schemas that hold together. llama.cpp joins the properties of objects, and takes the values of one `enum`. The
    /// schemas that are referred to count here as if they stood here.
    fn all_of(&mut self, map: &'a Object, kind: &str, place: &SchemaPlace) -> Result<(), String> {
        let path = place.path.as_str();
        only(map, &["type", "allOf"], kind, path)?;
        let schemas = some(map, "allOf", path)?;
        let path = format!("{path}/allOf");
        let mut names = BTreeSet::new();
        for (number, schema) in schemas.iter().enumerate() {
            if let Some(map) = schema.as_object().filter(|it| it.contains_key("$ref")) {
                only(map, &["$ref"], "any", &format!("{path}/{number}"))?;
            }
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
        for (number, schema) in schemas.iter().enumerate() {
            let schema = target(self.root, schema)?;
            // llama.cpp would write out the properties of the properties without end.
            if self.joined.iter().any(|it| std::ptr::eq(*it, schema)) {
                return Err(format!(
                    "the schema at {path:?} contains itself through `allOf`: write `$ref` without `allOf`"
                ));
            }
            self.joined.push(schema);
            self.node(schema, &place.at(&format!("{path}/{number}")))?;
            self.joined.pop();
        }
        Ok(())
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

/// The reason for a refusal of two schemas whose rules llama.cpp would call by one name.
fn confused(pointer: &str, other: &str) -> String {
    format!("`$ref` cannot tell {pointer:?} from {other:?}: rename one with letters and digits")
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

/// The list under `key`, which is empty if there is none.
fn list<'a>(map: &'a Object, key: &str, path: &str) -> Result<&'a [Value], String> {
    match map.get(key) {
        None => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(format!("`{key}` at {path:?} has to be a list")),
    }
}

/// The list under `key`, which nothing satisfies if it is empty.
fn some<'a>(map: &'a Object, key: &str, path: &str) -> Result<&'a [Value], String> {
    match list(map, key, path)? {
        [] => Err(format!("`{key}` at {path:?} is empty")),
        list => Ok(list),
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
