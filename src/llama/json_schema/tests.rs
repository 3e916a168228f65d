use serde_json::json;

use super::*;

fn told(schema: &Value) -> String {
    check(schema).expect_err("it is refused")
}

#[test]
fn schemas_that_grammars_hold_are_taken() {
    let cases = [
        json!({}),
        json!({ "title": "T", "description": "d", "default": 1, "x-order": 3, "$schema": "s" }),
        json!({ "type": "object", "properties": { "b": { "type": "integer" }, "a": {} }, "required": ["b"] }),
        json!({ "type": "object", "properties": { "a": {} }, "additionalProperties": false, "unevaluatedProperties": false }),
        json!({ "type": "object", "additionalProperties": { "type": "number" } }),
        json!({ "type": ["string", "null"], "minLength": 3, "maxLength": 9.0 }),
        json!({ "type": "string", "format": "date-time" }),
        json!({ "type": "string", "pattern": "^[a-z]{2,3}-(x|y)+$" }),
        // A format of numbers is an annotation, and so is what restricts values of other types.
        json!({ "type": "integer", "format": "int32", "minLength": 3 }),
        json!({ "type": "integer", "minimum": 0, "exclusiveMaximum": 10.5 }),
        json!({ "type": "integer", "minimum": 100, "maximum": 2000 }),
        json!({ "type": "integer", "minimum": 18 }),
        json!({ "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 3, "uniqueItems": false }),
        json!({ "type": "array", "prefixItems": [{}, {}], "minItems": 2, "maxItems": 2 }),
        json!({ "enum": ["a", 2, null], "type": ["string", "integer", "null"] }),
        json!({ "anyOf": [{ "type": "string" }, { "type": "null" }], "default": null }),
        json!({ "type": "object", "oneOf": [{ "type": "object", "properties": {} }] }),
        json!({ "$ref": "#/$defs/tree", "description": "d", "$defs": { "tree": { "type": "array", "items": { "$ref": "#/$defs/tree" } } } }),
        json!({ "allOf": [{ "$ref": "#/$defs/a" }], "$defs": { "a": { "type": "string", "enum": ["x"] } } }),
        json!({ "allOf": [{ "properties": { "a": {} } }, { "properties": { "b": {} } }] }),
        // Names that are alike, and not the same to llama.cpp.
        json!({
            "properties": { "ref": { "$ref": "#/$defs/a" }, "ref-defs": { "const": 1 }, "a": { "$ref": "#/$defs/a-kv2" } },
            "$defs": { "a": { "properties": { "b": { "const": 1 } } }, "a-kv2": { "const": 2 } },
        }),
        // A definition that nothing refers to is not read.
        json!({ "type": "null", "$defs": { "unused": { "not": {} } } }),
    ];
    for schema in cases {
        assert_eq!(check(&schema), Ok(()), "{schema}");
    }
}

/// Checks that each schema is refused, within a property, by its keyword.
fn assert_named<const N: usize>(cases: [(Value, &str); N]) {
    for (schema, keyword) in cases {
        let message = told(&json!({ "type": "object", "properties": { "p": schema } }));
        let expected = format!("the keyword `{keyword}` at \"#/properties/p\" is not supported");
        assert!(message.starts_with(&expected), "{message}");
    }
}

#[test]
fn a_keyword_that_a_grammar_does_not_hold_is_named_with_its_place() {
    let cases = [
        (json!({ "type": "number", "minimum": 0 }), "minimum"),
        (
            json!({ "type": "number", "exclusiveMaximum": 1 }),
            "exclusiveMaximum",
        ),
        (json!({ "type": "integer", "multipleOf": 5 }), "multipleOf"),
        (
            json!({ "type": "integer", "minimum": 1, "exclusiveMinimum": 3 }),
            "exclusiveMinimum",
        ),
        (json!({ "type": "integer", "minimum": 100 }), "minimum"),
        (
            json!({ "type": "integer", "exclusiveMinimum": 1899 }),
            "exclusiveMinimum",
        ),
        (json!({ "type": "integer", "maximum": -5 }), "maximum"),
        (json!({ "minimum": 3 }), "minimum"),
        (json!({ "type": "string", "format": "email" }), "format"),
        (
            json!({ "type": "string", "format": "date", "minLength": 3 }),
            "minLength",
        ),
        (
            json!({ "type": "string", "pattern": "^a$", "maxLength": 3 }),
            "maxLength",
        ),
        (json!({ "type": "string", "pattern": "a" }), "pattern"),
    ];
    assert_named(cases);
}

#[test]
fn a_keyword_of_lists_objects_or_all_values_is_named_too() {
    let cases = [
        (
            json!({ "type": "array", "uniqueItems": true }),
            "uniqueItems",
        ),
        (json!({ "type": "array", "contains": {} }), "contains"),
        (
            json!({ "type": "array", "items": {}, "prefixItems": [{}] }),
            "prefixItems",
        ),
        (
            json!({ "type": "array", "prefixItems": [{}], "minItems": 2 }),
            "minItems",
        ),
        (
            json!({ "type": "object", "minProperties": 1 }),
            "minProperties",
        ),
        (
            json!({ "type": "object", "patternProperties": {} }),
            "patternProperties",
        ),
        (
            json!({ "type": "object", "propertyNames": {} }),
            "propertyNames",
        ),
        (
            json!({ "type": "object", "dependentRequired": {} }),
            "dependentRequired",
        ),
        (json!({ "properties": { "a": {} }, "allOf": [{}] }), "allOf"),
        (
            json!({ "type": "object", "properties": { "a": {} }, "anyOf": [{ "required": ["a"] }] }),
            "properties",
        ),
        (json!({ "anyOf": [{}], "oneOf": [{}] }), "anyOf"),
        (
            json!({ "$ref": "#/properties", "minLength": 2 }),
            "minLength",
        ),
        (json!({ "not": { "type": "null" } }), "not"),
        (json!({ "type": "object", "if": {}, "then": {} }), "if"),
        (json!({ "const": 1, "enum": [1] }), "enum"),
    ];
    assert_named(cases);
}

#[test]
fn a_schema_that_makes_no_sense_says_where() {
    let nested =
        json!({ "type": "array", "items": { "type": "object", "properties": { "a": true } } });
    let cases = [
        (
            nested,
            "the schema at \"#/items/properties/a\" has to be an object",
        ),
        (
            json!({ "type": "hiccup" }),
            "the type \"hiccup\" at \"#\" is not known",
        ),
        (
            json!({ "type": 3 }),
            "`type` at \"#\" has to be a text or a list of texts",
        ),
        (
            json!({ "type": "object", "properties": { "a": {} }, "required": ["b"] }),
            "`required` at \"#\" names \"b\", which `properties` does not have",
        ),
        (
            json!({ "$ref": "#/nowhere" }),
            "`$ref` to \"#/nowhere\" leads to no schema of this document",
        ),
        (
            json!({ "allOf": [{ "type": "string" }] }),
            "the schema at \"#/allOf/0\" is not supported: only objects with `properties` can be joined",
        ),
        (
            json!({ "allOf": [{ "properties": { "a": {} } }, { "properties": { "a": {} } }] }),
            "two schemas at \"#/allOf\" have the property \"a\"",
        ),
        (
            json!({ "allOf": [{ "$ref": "#/allOf/0" }] }),
            "`$ref` refers to itself",
        ),
    ];
    for (schema, message) in cases {
        assert_eq!(told(&schema), message, "{schema}");
    }
}

#[test]
fn bounds_that_cannot_be_kept_are_named_with_their_place() {
    let cases = [
        (
            json!({ "type": "integer", "minimum": 5, "maximum": 3 }),
            "no integer is in the range at \"#\"",
        ),
        (
            json!({ "type": "integer", "maximum": 1e300 }),
            "`maximum` at \"#\" has to be a number within ±1e15",
        ),
        (
            json!({ "type": "string", "maxLength": 4000 }),
            "`maxLength` at \"#\" has to be a whole number from 0 to 2000, not 4000",
        ),
        (
            json!({ "type": "integer", "exclusiveMinimum": 4, "exclusiveMaximum": 5 }),
            "no integer is in the range at \"#\"",
        ),
        (
            json!({ "type": "integer", "minimum": 4.2, "maximum": 4.9 }),
            "no integer is in the range at \"#\"",
        ),
        (
            json!({ "type": "string", "maxLength": 2.5 }),
            "`maxLength` at \"#\" has to be a whole number from 0 to 2000, not 2.5",
        ),
        (
            json!({ "type": "array", "items": {}, "maxItems": 2000 }),
            "`maxItems` at \"#\" is at most 1998, not 2000",
        ),
        (
            json!({ "type": "array", "minItems": 4, "maxItems": 3 }),
            "`minItems` at \"#\" is larger than `maxItems`",
        ),
    ];
    for (schema, message) in cases {
        assert_eq!(told(&schema), message, "{schema}");
    }
}

#[test]
fn names_that_llama_cpp_would_confuse_are_refused() {
    let named = |name: &str| json!({ "type": "object", "properties": { name: { "type": "null" } }, "required": [name] });
    let cases = [
        (
            named(""),
            "the name \"\" in `properties` at \"#\" is not supported",
        ),
        (
            json!({ "allOf": [named("")] }),
            "the name \"\" in `properties` at \"#\" is not supported",
        ),
        (
            json!({ "type": "array", "items": named("*") }),
            "the name \"*\" in `properties` at \"#/items\" is not supported",
        ),
        (
            named(&"é".repeat(129)),
            "a name of more than 128 characters in `properties` at \"#\" is not supported",
        ),
        (
            json!({
                "anyOf": [{ "$ref": "#/$defs/a b" }, { "$ref": "#/$defs/a_b" }],
                "$defs": { "a b": { "type": "null" }, "a_b": { "type": "string" } },
            }),
            "`$ref` cannot tell \"#/$defs/a_b\" from \"#/$defs/a b\": rename one with letters and digits",
        ),
    ];
    for (schema, message) in cases {
        assert_eq!(told(&schema), message, "{schema}");
    }
    // Elsewhere an empty name has a rule of its own.
    for schema in [
        json!({ "type": "array", "items": named("") }),
        named(&"é".repeat(128)),
    ] {
        assert_eq!(check(&schema), Ok(()), "{schema}");
    }
}

#[test]
fn properties_that_may_be_left_out_are_bounded() {
    let names: Vec<String> = (0..201).map(|it| format!("k{it}")).collect();
    let properties: Object = names.iter().map(|it| (it.clone(), json!({}))).collect();
    let of =
        |n: usize| json!({ "type": "object", "properties": properties, "required": names[..n] });
    assert_eq!(check(&of(1)), Ok(()));
    assert_eq!(
        told(&of(0)),
        "the object at \"#\" has 201 properties that `required` does not name, and at most 200 are supported"
    );
}

#[test]
fn a_reference_is_followed_to_what_it_refers_to() {
    let schema = json!({
        "anyOf": [{ "$ref": "#/$defs/list" }, { "type": "null" }],
        "$defs": { "list": { "type": "array", "items": { "type": "number", "maximum": 1 } } },
    });
    let expected = "the keyword `maximum` at \"#/$defs/list/items\" is not supported here, and answers could break it";
    assert_eq!(told(&schema), expected);
}

#[test]
fn a_pattern_is_taken_only_if_the_grammar_holds_it() {
    let taken = [
        "^[a-z]+$",
        "^\\+?[0-9]{3,}$",
        "^(?:ab|c[D-F_-])*[.]x$",
        "^a\\.b\\-c$",
        "^[\\]\\[a]é$",
        "^([0-9]{4})-([0-9]{2})$",
    ];
    for pattern in taken {
        assert_eq!(pattern::check(pattern), Ok(()), "{pattern}");
    }
    let refused = [
        ("[a-z]+", "begin with `^`"),
        ("^a", "end with `$`"),
        ("^.*$", "quotation marks"),
        ("^[^a]$", "quotation marks"),
        ("^[ -~]+$", "holds \", which JSON escapes"),
        ("^a\"b$", "'\"', which JSON escapes"),
        ("^a\\\\b$", "which JSON escapes"),
        ("^\\d+$", "write `[0-9]`"),
        ("^[\\w]$", "write `[A-Za-z0-9_]`"),
        ("^[\\.]$", "only `[`, `]` and `-`"),
        ("^\\bword$", "`\\b` is not supported"),
        ("^(?=a)a$", "only `(?:`"),
        ("^a\\.+$", "has to be a class"),
        ("^é*$", "has to be a class"),
        ("^a+?$", "two repetitions"),
        ("^*a$", "nothing before it"),
        ("^a{3$", "curly brackets"),
        ("^a{,3}$", "curly brackets"),
        ("^a{3,2}$", "curly brackets"),
        ("^(a$", "parentheses"),
        ("^a)$", "parentheses"),
        ("^[a$", "has no end"),
        ("^[]$", "is empty"),
        ("^[z-a]$", "is empty"),
        ("^a$b$", "has to be escaped"),
        ("^a\\$", "ends with a backslash"),
    ];
    for (pattern, reason) in refused {
        let message = pattern::check(pattern).expect_err(pattern);
        assert!(message.contains(reason), "{pattern}: {message}");
    }
}

#[test]
fn schemas_that_allof_repeats_are_bounded() {
    // Each schema has the next one twice.
    let joined = |n: usize| json!({ "allOf": [{ "$ref": format!("#/$defs/{n}") }] });
    let both = |n: usize| json!({ "properties": { "a": joined(n), "b": joined(n) } });
    let of = |depth: usize| {
        let mut defs: Map<String, Value> =
            (0..depth).map(|n| (n.to_string(), both(n + 1))).collect();
        defs.insert(
            depth.to_string(),
            json!({ "properties": { "a": { "type": "null" } } }),
        );
        json!({ "$ref": "#/$defs/0", "$defs": defs })
    };
    assert_eq!(check(&of(8)), Ok(()));
    let refused = "it has more than 50000 schemas, those that `allOf` repeats included";
    assert_eq!(told(&of(40)), refused);
}

#[test]
fn references_that_llama_cpp_would_confuse_are_refused() {
    let cases = [
        (
            json!({
                "properties": {
                    "ref": { "properties": { "definitions": { "properties": { "a": { "const": 1 } } } } },
                    "b": { "$ref": "#/definitions/a" },
                },
                "definitions": { "a": { "const": 2 } },
            }),
            "`$ref` cannot tell \"#/definitions/a\" from \"#/properties/ref/properties/definitions/properties/a\": rename one with letters and digits",
        ),
        (
            json!({
                "items": { "$ref": "#/$defs/order" },
                "$defs": {
                    "order": { "properties": { "item": { "const": 1 }, "next": { "$ref": "#/$defs/order_item" } } },
                    "order_item": { "const": 2 },
                },
            }),
            "`$ref` cannot tell \"#/$defs/order_item\" from \"#/$defs/order/properties/item\": rename one with letters and digits",
        ),
        // llama.cpp calls the rule of the second `x` like the definition.
        (
            json!({
                "properties": { "a": { "$ref": "#/$defs/a" }, "b": { "$ref": "#/$defs/a-x-0" } },
                "$defs": {
                    "a": { "properties": { "x-": { "const": 1 }, "x_": { "const": 2 } } },
                    "a-x-0": { "const": 3 },
                },
            }),
            "`$ref` cannot tell \"#/$defs/a-x-0\" from \"#/$defs/a/properties/x-\": rename one with letters and digits",
        ),
    ];
    for (schema, message) in cases {
        assert_eq!(told(&schema), message, "{schema}");
    }
}

#[test]
fn schemas_that_nothing_satisfies_or_that_have_no_end_are_refused() {
    let cases = [
        (
            json!({ "properties": { "a": { "anyOf": [{ "enum": [] }] } } }),
            "`enum` at \"#/properties/a/anyOf/0\" is empty",
        ),
        (json!({ "anyOf": [] }), "`anyOf` at \"#\" is empty"),
        (json!({ "type": [] }), "`type` at \"#\" is empty"),
        // llama.cpp would write out the rules of such a schema without end.
        (
            json!({
                "$ref": "#/$defs/node",
                "$defs": { "node": { "properties": { "next": { "allOf": [{ "$ref": "#/$defs/node" }] } } } },
            }),
            "the schema at \"#/$defs/node/properties/next/allOf/0/properties/next/allOf\" contains itself through `allOf`: write `$ref` without `allOf`",
        ),
    ];
    for (schema, message) in cases {
        assert_eq!(told(&schema), message, "{schema}");
    }
}
