//! Roles that may not do everything: what they lack is told as the statements that grant it.
//!
//! Invariant: the statements told are the ones run next, by a superuser, and then the command succeeds.

use super::world::{End, Engine, World, until};

/// A role of a test's own; it goes with its handle.
struct Role<'a> {
    world: &'a World,
    name: String,
}

impl<'a> Role<'a> {
    fn new(world: &'a World, kind: &str) -> Self {
        let number = world.place(End::Source).rsplit("test_").next().unwrap().to_owned();
        let name = format!("{kind}_{number}");
        world.run_sql(End::Source, &format!("CREATE ROLE {name} LOGIN"));
        Self { world, name }
    }

    fn place(&self, end: End) -> String {
        self.world.place(end).replace("postgres@", &format!("{}@", self.name))
    }

    fn may(&self, end: End, grants: &str) {
        self.world.run_sql(end, &grants.replace("ROLE", &self.name));
    }

    /// Runs what a refusal named after `run there:`.
    fn grant_as_told(&self, end: End, told: &str) {
        let grants = told.split("run there: ").nth(1).unwrap_or_else(|| panic!("no statements in {told}"));
        self.world.run_sql(end, grants.lines().next().unwrap());
    }
}

impl Drop for Role<'_> {
    fn drop(&mut self) {
        let drop = format!("DROP OWNED BY {} CASCADE", self.name);
        self.world.run_sql(End::Target, &drop);
        self.world.run_sql(End::Source, &format!("{drop}; DROP ROLE {}", self.name));
    }
}

#[test]
fn a_source_role_that_may_only_select_is_told_what_capture_needs_and_then_succeeds() {
    let world = World::with_rows(Engine::Postgres, 40);
    let role = Role::new(&world, "reader");
    role.may(End::Source, "GRANT SELECT ON item, label TO ROLE");
    world.write_settings(&role.place(End::Source), &world.place(End::Target));
    let told = world.migrate(&["capture", "install", "items"]).expect_code(3);
    let told = told.expect_words(&["GRANT CREATE ON DATABASE", "ALTER TABLE public.item OWNER TO"]);
    role.grant_as_told(End::Source, &told.text);
    world.migrate(&["capture", "install", "items"]).expect_code(0);
    world.catch_up();
    world.assert_settled();
}

#[test]
fn a_source_role_that_may_only_select_is_told_what_a_run_needs_and_then_succeeds() {
    let world = World::captured(Engine::Postgres, 40);
    let role = Role::new(&world, "runner");
    world.write_settings(&role.place(End::Source), &world.place(End::Target));
    world.migrate(&["status", "items"]).expect_code(3).expect_words(&["does not permit", "GRANT SELECT ON"]);
    let told = world.migrate(&["run", "items", "--until-caught-up"]).expect_code(3);
    let told = told.expect_words(&["GRANT SELECT ON", "SCHEMA banyan", "heartbeat"]);
    role.grant_as_told(End::Source, &told.text);
    world.run_sql(End::Source, "UPDATE item SET name = 'changed' WHERE id = 7");
    world.catch_up();
    world.assert_settled();
    world.migrate(&["verify", "items"]).expect_code(0);
}

#[test]
fn a_target_role_without_insert_is_told_the_grant_and_then_succeeds() {
    let world = World::captured(Engine::Postgres, 40);
    let role = Role::new(&world, "poor");
    role.may(End::Target, "GRANT SELECT ON article, label TO ROLE");
    world.write_settings(&world.place(End::Source), &role.place(End::Target));
    let planned = world.migrate(&["plan", "items"]).expect_code(1);
    planned.expect_words(&["GRANT SELECT, INSERT, UPDATE, DELETE ON", "ALTER TABLE public.article OWNER TO"]);
    let told = world.migrate(&["run", "items", "--until-caught-up"]).expect_code(3);
    let told = told.expect_words(&[
        "GRANT SELECT, INSERT, UPDATE, DELETE ON public.article",
        "session_replication_role",
    ]);
    role.grant_as_told(End::Target, &told.text);
    // Loading drops and builds indexes, which only an owner may.
    let told = world.migrate(&["run", "items", "--until-caught-up"]).expect_code(3);
    role.grant_as_told(End::Target, &told.expect_words(&["ALTER TABLE public.article OWNER TO"]).text);
    world.migrate(&["run", "items", "--until-caught-up"]).expect_code(0);
    world.assert_settled();
}

#[test]
fn a_table_of_a_role_that_is_no_superuser_asks_for_membership_in_it() {
    let world = World::with_rows(Engine::Postgres, 4);
    let (owner, role) = (Role::new(&world, "owner"), Role::new(&world, "member"));
    world.run_sql(End::Source, &format!("ALTER TABLE item OWNER TO {}", owner.name));
    world.write_settings(&role.place(End::Source), &world.place(End::Target));
    let told = world.migrate(&["capture", "install", "items"]).expect_code(3);
    let told = told
        .expect_words(&[&format!("GRANT {} TO {}", owner.name, role.name), "ALTER TABLE public.label OWNER"]);
    role.grant_as_told(End::Source, &told.text);
    world.migrate(&["capture", "install", "items"]).expect_code(0);
}

#[test]
fn a_right_that_is_taken_away_under_a_run_ends_it_with_the_grant() {
    let world = World::copied(Engine::Postgres, 40);
    let role = Role::new(&world, "robbed");
    role.may(End::Target, "GRANT postgres TO ROLE");
    world.run_sql(End::Target, &format!("ALTER ROLE {} SUPERUSER", role.name));
    world.write_settings(&world.place(End::Source), &role.place(End::Target));
    let run = world.start(&["run", "items"]);
    until("it follows", || world.query(End::Target, "SELECT token FROM banyan.stream") == ["2"]);
    world.run_sql(End::Target, &format!("ALTER ROLE {0} NOSUPERUSER; REVOKE postgres FROM {0}", role.name));
    world.run_sql(End::Source, "UPDATE item SET name = 'changed' WHERE id = 7");
    let told = run.finish().expect_code(3).expect_words(&["GRANT", "banyan"]);
    drop(told);
    world.write_settings(&world.place(End::Source), &world.place(End::Target));
    world.catch_up();
    world.assert_settled();
}
