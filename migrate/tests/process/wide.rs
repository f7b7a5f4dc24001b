//! Tables of few, wide rows: memory is bounded by bytes, not by keys.
//!
//! Invariant: the rows are several times as large as the bound, so one chunk, piece or comparison that held them all would break it.

use std::fs;
use std::time::Duration;

use super::world::{End, Engine, World};

const ROWS: u32 = 24;
/// Of each row.
const CHARACTERS: u32 = 6 << 20;
/// Of any command; the binary itself takes some 25.
const MIB: u64 = 110;

const MANIFEST: &str = r#"
context = "items"

[[mapping]]
table = "page"
from = "page"
from_key = ["id"]
key = ["id"]
columns = ["id", "body"]
select = "SELECT p.id, p.body FROM source.page AS p WHERE {keys p.id}"
"#;

impl World {
    fn of_wide_rows(engine: Engine) -> Self {
        let table = "CREATE TABLE page (id integer PRIMARY KEY, body text NOT NULL)";
        let world = Self::bare(engine, table, table);
        world.write_manifest(MANIFEST);
        let (source, target) = (world.place(End::Source), world.place(End::Target));
        let settings = format!(
            "[extractions.items]\nmanifest = \"extraction.toml\"\nsource = \"{source}\"\ntarget = \"{target}\"\n"
        );
        fs::write(world.path("migrate.toml"), settings).unwrap();
        world.run_sql(
            End::Source,
            &format!(
                "INSERT INTO page WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {ROWS}) \
                 SELECT n, {} FROM n",
                world.wide("n")
            ),
        );
        world
    }

    /// A wide text that begins with a number.
    fn wide(&self, number: &str) -> String {
        match self.engine {
            Engine::Sqlite => format!("{number} || hex(zeroblob({}))", CHARACTERS / 2),
            Engine::Postgres => format!("{number} || repeat('0', {CHARACTERS})"),
        }
    }

    /// Runs a command within the bound; what it printed.
    fn within_bound(&self, args: &[&str], code: i32) -> String {
        let mut job = self.start(args);
        let mut peak = 0;
        while job.runs() {
            let status = fs::read_to_string(format!("/proc/{}/status", job.pid())).unwrap_or_default();
            let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
            peak = peak.max(kib.map_or(0, |kib| kib.parse::<u64>().unwrap() / 1024));
            std::thread::sleep(Duration::from_millis(2));
        }
        let told = job.finish().expect_code(code).text;
        assert!(peak > 0 && peak < MIB, "{:?}: `migrate {}` held {peak} MiB", self.engine, args.join(" "));
        told
    }

    fn bodies(&self, end: End) -> Vec<String> {
        self.query(end, "SELECT id, length(body), substr(body, 1, 10) FROM page ORDER BY id")
    }
}

#[test]
fn no_command_holds_more_of_wide_rows_than_a_few() {
    for engine in Engine::BOTH {
        let world = World::of_wide_rows(engine);
        world.within_bound(&["capture", "install", "items"], 0);
        world.within_bound(&["run", "items", "--until-caught-up"], 0);
        assert_eq!(world.bodies(End::Source), world.bodies(End::Target));

        world.run_sql(End::Source, "UPDATE page SET body = 'new' || body");
        world.within_bound(&["run", "items", "--until-caught-up"], 0);
        assert_eq!(world.bodies(End::Source), world.bodies(End::Target));

        world.run_sql(End::Target, &format!("UPDATE page SET body = {}", world.wide("'other'")));
        let told = world.within_bound(&["verify", "items", "--html", "report.html"], 1);
        assert!(told.len() < 100_000 && told.contains(&format!("{} ", CHARACTERS + 5)), "{}", told.len());
        assert!(fs::metadata(world.path("report.html")).unwrap().len() < 200_000);
        world.within_bound(&["repair", "items"], 0);
        assert_eq!(world.bodies(End::Source), world.bodies(End::Target));
        let log =
            fs::read_dir(world.folder.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        let whole = u64::from(ROWS * CHARACTERS) * 2;
        assert!(
            log.max().unwrap() > whole,
            "{engine:?}: the log holds rows as they were and as they are, whole"
        );
    }
}
