//! What the triggers log, and what is noticed when somebody touches them.
//!
//! Invariant: a write that the log does not hold is a write that the target never hears of.

use super::world::{World, plain};
use crate::drivers::postgres::PostgresDriver;
use crate::drivers::postgres::capture::log_name;
use crate::engine::{Driver as _, Phase, Source as _, Stream};

const ITEMS: &str =
    "CREATE TABLE item (id int PRIMARY KEY, name text); INSERT INTO item VALUES (1, 'a'), (2, 'b')";
const EMPTY: &str = "CREATE TABLE item (id int PRIMARY KEY, name text)";
const ALL: &str = "SELECT * FROM item";

fn items() -> World {
    World::new(ITEMS, EMPTY, vec![plain("item", &["id", "name"])])
}

#[test]
fn writers_without_permissions_in_replica_mode_and_by_copy_are_logged() {
    let world = items().copied();
    world
        .source
        .run("CREATE ROLE plain_writer; GRANT INSERT, UPDATE, SELECT ON item TO plain_writer")
        .unwrap();
    world.source.run("BEGIN; SET LOCAL ROLE plain_writer; SET LOCAL search_path = pg_temp; INSERT INTO public.item VALUES (3, 'c'); COMMIT; \
        BEGIN; SET LOCAL session_replication_role = replica; UPDATE item SET name = 'r' WHERE id = 1; COMMIT; \
        INSERT INTO item VALUES (2, 'u') ON CONFLICT (id) DO UPDATE SET name = 'u'; \
        COPY item FROM PROGRAM 'printf \"7\\tcopied\\n\"'").unwrap();
    world.source.run("DROP OWNED BY plain_writer; DROP ROLE plain_writer").unwrap();
    assert_eq!(world.follow().keys, 4);
    world.assert_same(ALL, ALL);
}

#[test]
fn a_writers_search_path_decides_nothing_in_the_triggers() {
    let world = items().copied();
    world
        .source
        .run(
            "CREATE SCHEMA hostile; CREATE FUNCTION hostile.yes(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
            CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.yes);
            CREATE FUNCTION hostile.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'on' $$;
            CREATE FUNCTION hostile.pg_current_xact_id() RETURNS xid8 LANGUAGE sql AS $$ SELECT '5'::xid8 $$;
            BEGIN; SET LOCAL search_path = hostile, pg_catalog, public; INSERT INTO item VALUES (3, 'c');
            UPDATE item SET id = 4 WHERE id OPERATOR(pg_catalog.=) 1; COMMIT",
        )
        .unwrap();
    assert_eq!(world.follow().keys, 3);
    world.assert_same(ALL, ALL);
}

#[test]
fn columns_without_an_equality_are_logged_too() {
    let table = "CREATE DOMAIN code AS text; CREATE TABLE item (id code PRIMARY KEY, name text);
        CREATE TABLE side (id text PRIMARY KEY, extra json, at point);";
    let rows = "INSERT INTO item VALUES ('a', 'x'), ('b', 'y'); INSERT INTO side VALUES ('a', '{}', NULL)";
    let mut mapping = plain("item", &["id", "name"]);
    let columns = ["id", "extra", "at"].map(str::to_owned).to_vec();
    // The join finds no key: what is looked at is that its changes can be logged.
    let keys = Some("SELECT id FROM item WHERE FALSE /* {values id} */".to_owned());
    mapping.joins = vec![crate::engine::Join { table: "side".into(), columns, keys }];
    let world = World::new(&format!("{table}{rows}"), table, vec![mapping]).copied();
    world
        .source
        .run("UPDATE item SET id = 'c' WHERE id = 'a'; UPDATE side SET extra = '[]'; UPDATE side SET at = '(1,2)'")
        .unwrap();
    assert_eq!(world.follow().keys, 2);
    world.assert_same("SELECT * FROM item", "SELECT * FROM item");
}

#[test]
fn capture_of_the_way_back_hears_its_application_and_not_the_way_there() {
    let world = items().copied();
    let back = Stream { name: Stream::opposite(&world.stream.name), ..world.stream.clone() };
    let driver = PostgresDriver::new(world.target.url(), world.source.url(), Default::default()).unwrap();
    driver.source().unwrap().install_capture(&back).unwrap();
    let count =
        || world.target.run(&format!("SELECT count(*) FROM {}", log_name(&back.name, "item"))).unwrap();
    world.source.run("UPDATE item SET name = 'applied' WHERE id = 1; DELETE FROM item WHERE id = 2").unwrap();
    assert_eq!(world.follow().rows, 2);
    assert_eq!(count(), "0");
    world.target.run("UPDATE item SET name = 'by the service' WHERE id = 1").unwrap();
    assert_eq!(count(), "1");
}

#[test]
fn capture_of_another_copy_hears_what_this_one_writes() {
    let world = items();
    let onward = Stream { name: "onward".to_owned(), ..world.stream.clone() };
    let driver = PostgresDriver::new(world.target.url(), world.source.url(), Default::default()).unwrap();
    driver.source().unwrap().install_capture(&onward).unwrap();
    let world = world.copied();
    let count = || world.target.run(&format!("SELECT count(*) FROM {}", log_name("onward", "item"))).unwrap();
    assert_eq!(count(), world.target.run("SELECT count(*) FROM item").unwrap());
    world.source.run("DELETE FROM item WHERE id = 1").unwrap();
    assert_eq!(world.follow().rows, 1);
    assert_eq!(count(), (world.target.run("SELECT count(*) + 2 FROM item").unwrap()));
}

#[test]
fn a_change_logs_one_row_unless_it_moves_the_key() {
    let world = items().copied();
    let log = world.source.run("SELECT relname FROM pg_class WHERE relname ~ '^log_[0-9a-f]{16}$'").unwrap();
    let count = || world.source.run(&format!("SELECT count(*) FROM banyan.{log}")).unwrap();
    world.source.run("UPDATE item SET name = 'z' WHERE id = 1").unwrap();
    assert_eq!(count(), "1");
    world.source.run("UPDATE item SET id = 9 WHERE id = 1").unwrap();
    assert_eq!(count(), "3");
}

#[test]
fn installing_again_changes_nothing_and_brings_back_what_was_dropped() {
    let world = items();
    let mut source = world.source_end();
    source.install_capture(&world.stream).unwrap();
    source.begin(&world.stream, None).unwrap();
    let before = source.fingerprint(&world.stream).unwrap();
    source.end().unwrap();
    source.install_capture(&world.stream).unwrap();
    source.begin(&world.stream, Some(&before)).unwrap();
    source.end().unwrap();
    let trigger = world.source.run("SELECT tgname FROM pg_trigger WHERE tgname LIKE '%_new'").unwrap();
    world.source.run(&format!("DROP TRIGGER {trigger} ON item")).unwrap();
    assert_eq!(source.capture_state(&world.stream).unwrap().faults.len(), 1);
    source.install_capture(&world.stream).unwrap();
    assert!(source.capture_state(&world.stream).unwrap().faults.is_empty());
    // Changes may have gone unlogged, so the stream must not go on.
    assert_eq!(source.begin(&world.stream, Some(&before)).unwrap_err().exit_code(), 3);
}

#[test]
fn nobody_else_empties_a_log() {
    let world = items();
    world.source_end().install_capture(&world.stream).unwrap();
    world.source.run("INSERT INTO item (id) VALUES (4711)").unwrap();
    let log = "SELECT oid::regclass FROM pg_class WHERE relname LIKE 'log\\_%' AND relkind = 'r'";
    let log = world.source.run(log).unwrap();
    for statement in
        [format!("TRUNCATE {log}"), format!("SET session_replication_role = replica; DELETE FROM {log}")]
    {
        let error = format!("{:#}", world.source.run(&statement).unwrap_err());
        assert!(error.contains("belongs to a copy") && error.contains("migrate capture remove"), "{error}");
    }
    world.source.run(&format!("DROP TRIGGER banyan_guard ON {log}")).unwrap();
    assert_eq!(world.source_end().capture_state(&world.stream).unwrap().faults.len(), 1);
    world.source_end().install_capture(&world.stream).unwrap();
    assert!(world.source_end().capture_state(&world.stream).unwrap().faults.is_empty());
}

#[test]
fn a_trigger_that_was_off_for_a_moment_is_noticed() {
    let world = items().copied();
    let trigger = world.source.run("SELECT tgname FROM pg_trigger WHERE tgname LIKE '%_new'").unwrap();
    world
        .source
        .run(&format!(
            "ALTER TABLE item DISABLE TRIGGER {trigger}; INSERT INTO item VALUES (3, ''); \
        ALTER TABLE item ENABLE ALWAYS TRIGGER {trigger}"
        ))
        .unwrap();
    let error = world.try_follow().unwrap_err();
    assert!(error.to_string().contains(&trigger), "{error}");
    assert_eq!(error.exit_code(), 3);
}

#[test]
fn another_streams_capture_of_a_table_comes_and_goes_without_concern_to_the_first() {
    let world = items().copied();
    let other = Stream { name: "others".to_owned(), ..world.stream.clone() };
    let mut source = world.source_end();
    source.install_capture(&other).unwrap();
    let position = source.begin(&other, None).unwrap();
    let fingerprint = source.fingerprint(&other).unwrap();
    source.end().unwrap();
    world.source.run("UPDATE item SET name = 'both' WHERE id = 1").unwrap();
    assert_eq!(world.follow().keys, 1);
    source.remove_capture(&other).unwrap();
    world.source.run("UPDATE item SET name = 'one' WHERE id = 2").unwrap();
    assert_eq!(world.follow().keys, 1);
    world.assert_same(ALL, ALL);
    source.install_capture(&other).unwrap();
    let position_then = source.begin(&other, None).unwrap();
    assert!(source.covers(&position_then, &position).unwrap());
    assert!(source.begin(&other, Some(&fingerprint)).is_err(), "its own triggers are others now");
    let fingerprint = {
        source.begin(&other, None).unwrap();
        source.fingerprint(&other).unwrap()
    };
    source.end().unwrap();
    source.remove_capture(&world.stream).unwrap();
    world.source.run("DELETE FROM item WHERE id = 2").unwrap();
    source.begin(&other, Some(&fingerprint)).unwrap();
    assert_eq!(source.stage_dirty(&other.mappings[0], &position_then).unwrap().keys, 1);
}

#[test]
fn two_that_install_at_once_wait_for_each_other() {
    let world = items();
    let mut writer = postgres::Client::connect(world.source.url(), postgres::NoTls).unwrap();
    // What is uncommitted holds the first of them where it has looked for triggers and made none yet.
    writer.batch_execute("BEGIN; INSERT INTO item VALUES (3, 'c')").unwrap();
    std::thread::scope(|scope| {
        let install = || world.source_end().install_capture(&world.stream);
        let both = [scope.spawn(install), scope.spawn(install)];
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted \
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        while world.source.run(waiting).unwrap() != "2" {
            assert!(!both.iter().any(|installed| installed.is_finished()), "they do not wait for the writer");
        }
        writer.batch_execute("COMMIT").unwrap();
        for installed in both {
            installed.join().unwrap().unwrap();
        }
    });
    assert_eq!(world.source_end().capture_state(&world.stream).unwrap().faults, Vec::<String>::new());
}

#[test]
fn an_altered_table_is_noticed_and_told() {
    let world = items().copied();
    world.source.run("ALTER TABLE item ALTER name TYPE varchar(9)").unwrap();
    let error = world.try_follow().unwrap_err().to_string();
    assert!(error.contains("character varying(9)") && error.contains("text"), "{error}");
}

#[test]
fn removing_leaves_no_trace_and_the_tables_alone() {
    let world = items();
    let mut source = world.source_end();
    source.install_capture(&world.stream).unwrap();
    source.remove_capture(&world.stream).unwrap();
    source.remove_capture(&world.stream).unwrap();
    let left = "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'banyan') + (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal)";
    assert_eq!(world.source.run(left).unwrap(), "0");
    assert_eq!(world.source.run("SELECT count(*) FROM item").unwrap(), "2");
}

#[test]
fn views_and_keys_that_may_be_null_are_refused() {
    for (source, word) in [
        ("CREATE TABLE base (id int NOT NULL, name text); CREATE VIEW item AS SELECT * FROM base", "NULL"),
        ("CREATE TABLE item (id int UNIQUE, name text)", "SET NOT NULL"),
        ("CREATE TABLE item (name text)", "no column id"),
    ] {
        let world = World::new(source, EMPTY, vec![plain("item", &["id", "name"])]);
        let error = world.begin(Phase::Following).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(error.exit_code(), 3);
    }
}

#[test]
fn permissions_that_are_missing_are_told_as_grants() {
    let world = items();
    let role = format!("poor_{}", world.source.name());
    world.source.run(&format!("CREATE ROLE {role} LOGIN")).unwrap();
    let url = |url: &str| url.replace("postgres@", &format!("{role}@"));
    let driver = crate::drivers::postgres::PostgresDriver::new(
        &url(world.source.url()),
        &url(world.target.url()),
        Default::default(),
    )
    .unwrap();
    let mut source = crate::engine::Driver::source(&driver).unwrap();
    let error = source.install_capture(&world.stream).unwrap_err();
    let text = error.to_string();
    for grant in
        ["GRANT SELECT ON public.item TO", "GRANT CREATE ON DATABASE", "ALTER TABLE public.item OWNER TO"]
    {
        assert!(text.contains(grant), "{text}");
    }
    let mut target = crate::engine::Driver::target(&driver).unwrap();
    let text = crate::engine::Target::prepare(&mut target, &world.stream).unwrap_err().to_string();
    for grant in ["GRANT SELECT, INSERT, UPDATE, DELETE ON public.item TO", "session_replication_role"] {
        assert!(text.contains(grant), "{text}");
    }
    drop((source, target));
    world.source.run(&format!("DROP ROLE {role}")).unwrap();
}

#[test]
fn rows_that_a_policy_hides_are_an_error_and_not_deleted() {
    let world = items().copied();
    let role = format!("hidden_{}", world.source.name());
    world
        .source
        .run(&format!(
            "CREATE ROLE {role} LOGIN; GRANT SELECT ON item TO {role}; GRANT USAGE ON SCHEMA banyan TO {role}; \
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA banyan TO {role}; \
        ALTER TABLE item ENABLE ROW LEVEL SECURITY"
        ))
        .unwrap();
    let url = world.source.url().replace("postgres@", &format!("{role}@"));
    let driver =
        crate::drivers::postgres::PostgresDriver::new(&url, world.target.url(), Default::default()).unwrap();
    let mut source = crate::engine::Driver::source(&driver).unwrap();
    let error = source.begin(&world.stream, None).unwrap_err().to_string();
    assert!(error.contains("row-level security") && error.contains("BYPASSRLS"), "{error}");
    drop(source);
    world.source.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).unwrap();
}
