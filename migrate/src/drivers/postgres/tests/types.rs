//! Types, one test each: what chunks copy and what catch-up brings is the same to the last character, and sums agree.
//!
//! Invariant: equality is that of `::text` as `psql` prints it on both servers.

use super::world::{World, plain};

/// Copies half of the values by chunk and half by catch-up, then changes all of them round and follows that.
#[track_caller]
fn moves(kind: &str, prelude: &str, values: &[&str]) {
    let table = format!("{prelude} CREATE TABLE item (id int PRIMARY KEY, v {kind});");
    let fill = |from: usize| {
        let rows = values.iter().enumerate().filter(|(at, _)| at % 2 == from);
        let rows: String =
            rows.map(|(at, value)| format!("INSERT INTO item VALUES ({at}, {value});")).collect();
        format!("{rows} INSERT INTO item VALUES ({}, NULL);", 1000 + from)
    };
    let world =
        World::new(&format!("{table} {}", fill(0)), &table, vec![plain("item", &["id", "v"])]).copied();
    let all = "SELECT id, v IS NULL, v::text, concat(v), '.' FROM item";
    world.assert_same(all, all);
    world.source.run(&fill(1)).unwrap();
    world.follow();
    world.assert_same(all, all);
    assert!(world.sums_agree(0), "{kind}: sums differ");
    world
        .source
        .run("UPDATE item i SET v = (SELECT o.v FROM item o WHERE o.id > i.id ORDER BY o.id LIMIT 1)")
        .unwrap();
    world.follow();
    world.assert_same(all, all);
    assert!(world.sums_agree(0), "{kind}: sums differ after changes");
}

#[test]
fn integers() {
    moves("smallint", "", &["-32768", "32767", "0"]);
    moves("integer", "", &["-2147483648", "2147483647", "0"]);
    moves("bigint", "", &["-9223372036854775808", "9223372036854775807", "0"]);
}

#[test]
fn numeric_of_any_scale() {
    moves(
        "numeric",
        "",
        &[
            "1",
            "1.0",
            "1.00",
            "0",
            "-0.000",
            "'NaN'",
            "1e1000",
            "-1e-1000",
            "123456789012345678901234567890.0123456789",
        ],
    );
    moves("numeric(10,2)", "", &["1.5", "-99999999.99", "'NaN'"]);
}

#[test]
fn floats() {
    let values =
        ["0", "'-0'", "'NaN'", "'Infinity'", "'-Infinity'", "1e-40", "0.1", "3.4028235e38", "1.17549435e-38"];
    moves("real", "", &values);
    moves("double precision", "", &values);
    moves("double precision", "", &["1.7976931348623157e308", "5e-324", "0.30000000000000004"]);
}

#[test]
fn text_of_every_plane() {
    let values = [
        "''",
        "'  padded  '",
        "E'tab\\tline\\nback\\\\slash'",
        "'ä€漢𝄞👩‍👩‍👧'",
        "U&'\\FEFF\\+01F600\\+10FFFF'",
        "E'\\x01\\x7f'",
        "'e\u{301}'",
        "'é'",
    ];
    moves("text", "", &values);
    moves("varchar(40)", "", &values);
    moves("char(40)", "", &values);
    moves("char(3)", "", &["'a'", "'a  '", "''", "'abc'"]);
    moves("name", "", &["'n'", "''"]);
    moves("\"char\"", "", &["'x'", "''"]);
}

#[test]
fn bytes() {
    moves("bytea", "", &["''", "'\\x00'", "'\\x00ff5c27'", "decode(repeat('00ff', 5000), 'hex')"]);
}

#[test]
fn booleans() {
    moves("boolean", "", &["true", "false"]);
}

#[test]
fn dates_and_times() {
    moves(
        "date",
        "",
        &["'0001-01-01'", "'4713-01-01 BC'", "'5874897-12-31'", "'infinity'", "'-infinity'", "'2000-02-29'"],
    );
    moves("time", "", &["'00:00'", "'24:00'", "'23:59:59.999999'"]);
    moves("timetz", "", &["'00:00+15:59'", "'23:59:59.999999-15:59'", "'12:00+00'"]);
}

#[test]
fn timestamps_from_bc_to_far_years() {
    let values = [
        "'4713-01-01 00:00:00 BC'",
        "'0044-03-15 12:00:00.000001 BC'",
        "'10000-01-01'",
        "'294276-12-31 23:59:59.999999'",
        "'infinity'",
        "'-infinity'",
        "'1970-01-01'",
    ];
    moves("timestamp", "", &values);
    moves("timestamptz", "", &values);
    moves("timestamptz(0)", "", &["'2000-01-01 12:00:00+14'"]);
}

#[test]
fn intervals() {
    moves(
        "interval",
        "",
        &["'1 mon'", "'30 days'", "'720:00:00'", "'-178000000 years'", "'1 day -1 hour 0.000001 s'", "'0'"],
    );
}

#[test]
fn uuids() {
    moves(
        "uuid",
        "",
        &[
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "gen_random_uuid()",
        ],
    );
}

#[test]
fn json_as_written_and_jsonb() {
    moves("json", "", &["'{\"b\":1,  \"a\": 1.0, \"a\":2}'", "'null'", "'\"\\u00e4\"'", "'[1, 2]'"]);
    moves("jsonb", "", &["'{\"b\":1,  \"a\": 1.00, \"a\":2}'", "'null'", "'1e5'", "'[]'"]);
}

#[test]
fn enums_and_their_arrays() {
    let enums = "CREATE TYPE mood AS ENUM ('sad', 'so, so', 'it''s \"ok\"');";
    moves("mood", enums, &["'sad'", "'so, so'", "'it''s \"ok\"'"]);
    moves("mood[]", enums, &["'{sad,\"so, so\"}'", "'{}'", "ARRAY[NULL, 'sad']::mood[]"]);
}

#[test]
fn arrays() {
    moves("int[]", "", &["'{}'", "'{1,NULL,3}'", "'[0:1]={1,2}'", "'{{1,2},{3,4}}'"]);
    moves("text[]", "", &["'{}'", "'{\"\",NULL,\"NULL\",\"a\\\"b\"}'"]);
    moves("numeric[]", "", &["'{1.0,1.00,NaN}'"]);
}

#[test]
fn ranges() {
    moves("int4range", "", &["'empty'", "'[1,5)'", "'(,)'", "'(,3]'"]);
    moves("tstzrange", "", &["'[2000-01-01,infinity)'", "'empty'"]);
    moves("numrange", "", &["'[1.0,2.00]'"]);
    moves("shout", "CREATE TYPE shout AS RANGE (subtype = text);", &["'[a,b)'", "'empty'"]);
}

#[test]
fn networks_bits_and_geometry() {
    moves("inet", "", &["'10.0.0.1'", "'10.0.0.1/8'", "'::1/128'"]);
    moves("cidr", "", &["'10.0.0.0/8'", "'::/0'"]);
    moves("macaddr8", "", &["'08:00:2b:01:02:03:04:05'"]);
    moves("bit(5)", "", &["B'10101'", "B'00000'"]);
    moves("varbit", "", &["B''", "B'1'", "B'0000000001'"]);
    moves("point", "", &["'(1,-0)'", "'(NaN,Infinity)'"]);
    moves("tsvector", "", &["'a:1 b:2,3'", "''"]);
}

#[test]
fn xml_and_money() {
    moves("xml", "", &["'<a b=\"c\">d</a>'", "'text'"]);
    moves("money", "", &["'-92233720368547758.08'", "'92233720368547758.07'", "0"]);
}

#[test]
fn domains_and_composites() {
    let types = "CREATE DOMAIN positive AS int CHECK (value > 0); CREATE DOMAIN small AS positive CHECK (value < 9); \
        CREATE TYPE pair AS (a int, b text);";
    moves("small", types, &["1", "8"]);
    moves("pair", types, &["'(1,\"x, y\")'", "'(,)'"]);
    moves("positive[]", types, &["'{1,2}'"]);
    moves("regclass", "", &["'pg_class'", "'pg_type'"]);
}

#[test]
fn generated_columns_are_left_to_the_target_and_refused_in_a_mapping() {
    let table = "CREATE TABLE item (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED);";
    let rows = "INSERT INTO item (v) SELECT generate_series(1, 9)";
    let world = World::new(&format!("{table}{rows}"), table, vec![plain("item", &["id", "v"])]).copied();
    world.source.run("UPDATE item SET v = 50 - v; DELETE FROM item WHERE id = 3").unwrap();
    world.follow();
    world.assert_same("SELECT * FROM item", "SELECT * FROM item");
    let world = World::new(table, table, vec![plain("item", &["id", "twice"])]);
    let error = world.begin(crate::engine::Phase::Following).unwrap_err().to_string();
    assert!(error.contains("item.twice is generated"), "{error}");
}

#[test]
fn a_value_takes_the_type_of_the_target() {
    let source = "CREATE TYPE mood AS ENUM ('sad'); CREATE TABLE item (id int PRIMARY KEY, v mood, w int, x varchar(9), y bool, z oid);
        INSERT INTO item VALUES (1, 'sad', 5, 'x', true, 4294967295)";
    let target = "CREATE TYPE feeling AS ENUM ('glad', 'sad'); CREATE TABLE item (id text PRIMARY KEY, v feeling, w numeric, x text,
        y int, z int)";
    let world = World::new(source, target, vec![plain("item", &["id", "v", "w", "x", "y", "z"])]).copied();
    world
        .source
        .run("INSERT INTO item VALUES (2, NULL, 6, 'y', false, 7); UPDATE item SET w = 7 WHERE id = 1")
        .unwrap();
    world.follow();
    world.assert_same("SELECT id, v, w, x, y::int, z::int FROM item", "SELECT * FROM item");
    assert!(world.sums_agree(0));
}

#[test]
fn casts_that_lose_and_labels_that_are_missing_are_refused() {
    for (from, to, word) in [
        ("numeric", "int", "does not hold every value"),
        ("float8", "real", "does not hold every value"),
        ("timestamp", "date", "does not hold every value"),
    ] {
        let table = |kind: &str| format!("CREATE TABLE item (id int PRIMARY KEY, v {kind})");
        let world = World::new(&table(from), &table(to), vec![plain("item", &["id", "v"])]);
        let error = world.begin(crate::engine::Phase::Following).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    let table = |labels: &str| {
        format!("CREATE TYPE m AS ENUM ({labels}); CREATE TABLE item (id int PRIMARY KEY, v m)")
    };
    let world = World::new(&table("'a', 'b'"), &table("'a'"), vec![plain("item", &["id", "v"])]);
    let error = world.begin(crate::engine::Phase::Following).unwrap_err().to_string();
    assert!(error.contains("lacks the labels b"), "{error}");
}

#[test]
fn random_values_of_many_types_at_once() {
    let columns = [
        ("a bigint", "((random() - 0.5) * 1e18)::bigint"),
        ("b numeric", "round((random() * 10 ^ (random() * 40)::int)::numeric, (random() * 20)::int)"),
        ("c float8", "(random() - 0.5) * 10 ^ ((random() - 0.5) * 600)"),
        ("d real", "((random() - 0.5) * 10 ^ ((random() - 0.5) * 70))::real"),
        (
            "e text",
            "repeat(chr(1 + (random() * 55000)::int) || chr(65536 + (random() * 900000)::int), (random() * 9)::int)",
        ),
        ("f bytea", "decode(md5(random()::text), 'hex')"),
        ("g timestamptz", "to_timestamp((random() - 0.3) * 1e11)"),
        ("h interval", "make_interval(months => (random() * 99)::int, secs => random() * 1e9)"),
        ("i jsonb", "jsonb_build_object(md5(random()::text), random(), 'x', NULL)"),
        ("j numeric[]", "ARRAY[random()::numeric, NULL, (random() * 9)::int]"),
        ("k varbit", "((random() * 1e9)::int)::bit(32)::varbit"),
        ("l int8range", "int8range((random() * 9)::int, 9 + (random() * 1e9)::int)"),
        ("m uuid", "gen_random_uuid()"),
        ("n date", "date '1000-01-01' + (random() * 1e6)::int"),
    ];
    let declared: Vec<&str> = columns.iter().map(|(column, _)| *column).collect();
    let made = columns
        .iter()
        .map(|(_, made)| format!("CASE WHEN random() < 0.9 THEN {made} END"))
        .collect::<Vec<_>>()
        .join(", ");
    let names: Vec<&str> = ["id"].into_iter().chain(declared.iter().map(|column| &column[..1])).collect();
    let table = format!("CREATE TABLE item (id int PRIMARY KEY, {});", declared.join(", "));
    let fill = |from: i32| {
        format!(
            "SET extra_float_digits = 3; SELECT setseed(0.{from}); INSERT INTO item SELECT i, {made} FROM generate_series({from}, {from} + 149) i;"
        )
    };
    let world = World::new(&format!("{table}{}", fill(1)), &table, vec![plain("item", &names)]).copied();
    let all = "SELECT item::text, '.' FROM item";
    world.assert_same(all, all);
    world.source.run(&fill(500)).unwrap();
    world.follow();
    world.assert_same(all, all);
    assert!(world.sums_agree(0));
}
