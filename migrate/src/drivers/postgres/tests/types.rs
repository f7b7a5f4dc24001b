//! Every type over its extremes: by chunk and by catch-up, equal as text on both ends.

use super::world::{World, same, stream};

const MADE: &str = "CREATE TYPE mood AS ENUM ('sad', 'so so', 'glad'); CREATE DOMAIN small AS int CHECK (VALUE < 100); \
    CREATE TYPE pair AS (a int, b text);";

/// Copies values of a type by chunk, and again by catch-up.
fn moves(declared: &str, values: &[&str]) {
    let table = format!("{MADE} CREATE TABLE item (id int PRIMARY KEY, value {declared})");
    let mut rows = String::new();
    for (number, value) in values.iter().enumerate() {
        rows += &format!("({number}, {value}), ");
    }
    rows += "(-1, NULL)";
    // A type made first gives types other numbers at the target.
    let world = World::new(
        &format!("{table}; INSERT INTO item VALUES {rows}"),
        &format!("CREATE TYPE other AS ENUM ('x'); {table}"),
    );
    let stream = stream(vec![same("item", &["id", "value"])]);
    world.begin(&stream);
    world.copy(&stream);
    world.assert_equal("item", "id, value");
    world.source.run("UPDATE item SET id = id + 1000").unwrap();
    world.follow(&stream, 3);
    world.assert_equal("item", "id, value");
    assert_eq!(world.follow(&stream, 3), 0);
    world.assert_sums_equal(&stream);
}

macro_rules! types {
    ($($name:ident: $declared:literal, [$($value:literal),*];)*) => {
        $(#[test] fn $name() { moves($declared, &[$($value),*]); })*
    };
}

types! {
    bigint_moves: "bigint", ["-9223372036854775808", "9223372036854775807", "0"];
    numeric_moves: "numeric", ["1.0", "1.00", "'NaN'", "-0.0000000000000000001", "1e1000", "123456789012345678901234567890.123"];
    float8_moves: "float8", ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "5e-324", "1.7976931348623157e308", "0.1"];
    float4_moves: "float4", ["'NaN'", "'-Infinity'", "'-0'", "1e-45", "3.4028235e38", "0.1"];
    text_moves: "text", ["''", "'a''b'", "E'\\t\\n\\\\'", "U&'\\+01F600 \\FFFD \\00e4'", "repeat('long ', 10000)"];
    varchar_moves: "varchar(5)", ["'abcde'", "'a    '"];
    char_moves: "char(5)", ["'ab'", "'     '"];
    bytea_moves: "bytea", ["''", "'\\x00ff'", "decode(repeat('00ab', 5000), 'hex')"];
    boolean_moves: "boolean", ["true", "false"];
    date_moves: "date", ["'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"];
    time_moves: "time", ["'00:00'", "'24:00'", "'23:59:59.999999'"];
    timetz_moves: "timetz", ["'00:00+15:59'", "'24:00-15:59'"];
    timestamp_moves: "timestamp", ["'infinity'", "'4713-01-01 00:00:00 BC'", "'294276-12-31 23:59:59.999999'", "'10000-01-01'"];
    timestamptz_moves: "timestamptz", ["'-infinity'", "'4713-01-01 00:00:00+00 BC'", "'294276-12-31 23:59:59.999999+00'"];
    interval_moves: "interval", ["'1 mon'", "'30 days'", "'-178000000 years'", "'1 day -23:59:59.999999'"];
    uuid_moves: "uuid", ["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"];
    json_moves: "json", ["'{\"a\":  1, \"a\": 2}'", "'null'"];
    jsonb_moves: "jsonb", ["'{\"a\":  1.00, \"b\": [null]}'", "'null'"];
    enum_moves: "mood", ["'sad'", "'so so'"];
    enum_array_moves: "mood[]", ["'{sad,NULL}'", "'{}'"];
    array_moves: "int[]", ["'{}'", "'[-2:0]={1,NULL,3}'", "'{{1,2},{3,4}}'"];
    range_moves: "int8range", ["'empty'", "'[1,)'", "'(,)'"];
    inet_moves: "inet", ["'10.0.0.1/8'", "'::1'"];
    cidr_moves: "cidr", ["'10.0.0.0/8'"];
    macaddr_moves: "macaddr", ["'08:00:2b:01:02:03'"];
    bit_moves: "bit(3)", ["B'101'"];
    varbit_moves: "bit varying", ["B''", "B'1011'"];
    xml_moves: "xml", ["'<a b=\"c\">d</a>'", "'text'"];
    money_moves: "money", ["'-92233720368547758.08'", "'92233720368547758.07'"];
    domain_moves: "small", ["-5", "99"];
    composite_moves: "pair", ["'(1,\"a b\")'", "'(,)'"];
    point_moves: "point", ["'(1.5,-0)'"];
    tsvector_moves: "tsvector", ["'a:1 b:2'"];
}

#[test]
fn a_value_too_long_is_refused_and_not_cut() {
    let item = |declared: &str| format!("CREATE TABLE item (id int PRIMARY KEY, value {declared})");
    let world =
        World::new(&format!("{}; INSERT INTO item VALUES (1, 'abcdef')", item("text")), &item("varchar(3)"));
    let stream = stream(vec![same("item", &["id", "value"])]);
    world.begin(&stream);
    assert!(world.try_copy(&stream).is_err());
}
