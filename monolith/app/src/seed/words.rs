//! The words that generated users are made of, by script.
//!
//! Invariant: every list has words, and none begins or ends with a blank.

/// Words of one script.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) given: &'static [&'static str],
    pub(super) family: &'static [&'static str],
    pub(super) streets: &'static [&'static str],
    pub(super) cities: &'static [&'static str],
    pub(super) countries: &'static [&'static str],
}

/// All scripts; the ones that stand twice are drawn twice as often.
pub(super) const SCRIPTS: [Script; 7] = [LATIN, LATIN, ARABIC, HEBREW, GREEK, CYRILLIC, HAN];

/// What users call their addresses.
pub(super) const LABELS: [&str; 4] = ["home", "billing", "work", "parents"];

/// Latin, with letters outside ASCII, apostrophes, and letters that take two code points.
pub(super) const LATIN: Script = Script {
    given: &[
        "Ann",
        "Zoë",
        "José",
        "Łukasz",
        "Siân",
        "Jürgen",
        "Noémie",
        "Chloe",
        "Oisín",
        "Åse",
        "Ngọc",
        "Bob",
        "D'Arcy",
        "Rene\u{301}e",
        "Þóra",
        "Ioana",
    ],
    family: &[
        "Smith",
        "O'Neil",
        "van der Berg",
        "García Márquez",
        "Müller",
        "Østergård",
        "de la Cruz",
        "Nguyễn",
        "St. John",
        "Çelik",
        "Żółć",
        "Wu",
        "MacDonald",
        "Szabó",
    ],
    streets: &["High Street", "Rue de l'Église", "Königsallee", "Calle Mayor", "Å vej", "Nowy Świat"],
    cities: &["London", "Zürich", "São Paulo", "Kraków", "Malmö", "Reykjavík"],
    countries: &["United Kingdom", "Germany", "Brazil", "Poland", "France", "Iceland"],
};

const ARABIC: Script = Script {
    given: &["شيماء", "محمد", "فاطمة", "عمر", "ليلى", "يوسف", "نور", "عبد الله"],
    family: &["حسن", "الخطيب", "بن علي", "العمري", "منصور", "أبو زيد"],
    streets: &["شارع النيل", "شارع الملك فيصل", "طريق البحر"],
    cities: &["القاهرة", "الرياض", "عمّان", "الدار البيضاء"],
    countries: &["Egypt", "Saudi Arabia", "Jordan", "المغرب"],
};

const HEBREW: Script = Script {
    given: &["נועה", "דוד", "תמר", "יוסף", "שירה", "אליהו", "רות"],
    family: &["כהן", "לוי", "בן־דוד", "פרץ", "אבו חצירא", "שפירא"],
    streets: &["רחוב הרצל", "שדרות רוטשילד", "דרך יפו"],
    cities: &["ירושלים", "תל אביב", "חיפה"],
    countries: &["Israel", "ישראל"],
};

const GREEK: Script = Script {
    given: &["Ελένη", "Γιώργος", "Σοφία", "Νίκος"],
    family: &["Παπαδόπουλος", "Γεωργίου", "Οικονόμου"],
    streets: &["Οδός Ερμού", "Λεωφόρος Αθηνών"],
    cities: &["Αθήνα", "Θεσσαλονίκη"],
    countries: &["Greece", "Cyprus"],
};

const CYRILLIC: Script = Script {
    given: &["Олена", "Іван", "Мария", "Ђорђе", "Наталія"],
    family: &["Шевченко", "Петров", "Јовановић", "Коваль"],
    streets: &["вулиця Хрещатик", "Невский проспект"],
    cities: &["Київ", "Београд", "Софія"],
    countries: &["Ukraine", "Serbia", "Bulgaria"],
};

/// Han, kana and hangul, and one character outside the basic plane.
const HAN: Script = Script {
    given: &["伟", "さくら", "민준", "𠮷之助", "芳"],
    family: &["王", "田中", "김", "欧阳"],
    streets: &["中山路", "銀座通り", "강남대로"],
    cities: &["上海", "東京", "서울"],
    countries: &["China", "Japan", "South Korea"],
};
