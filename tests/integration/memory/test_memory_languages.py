"""What is written in any language, script or notation is found by its words, in a real index and among other lines.

Every line and every question below is looked up by words only, among all the lines of this page and several hundred
others in the same languages, and has to be the first hit.
"""

from __future__ import annotations

import unicodedata
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from reverie.testing.fake_transcripts import FakeTranscripts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    OpenIndex = Callable[..., AbstractAsyncContextManager[Any]]

pytestmark = pytest.mark.anyio


def apart(text: str) -> str:
    """A text with its accents, voicing marks and syllables written as separate characters (NFD)."""
    return unicodedata.normalize("NFD", text)


GOLDEN: dict[str, dict[str, tuple[str, ...]]] = {
    "chinese": {
        "我们讨论了支付系统的退款流程": ("支付", "支付系统", "退款", "我们上次讨论的支付系统是什么？"),
        "小黑是一条狗，喜欢睡在窗台上": ("狗", "小黑", "窗台", "谁喜欢睡在窗台上？"),
        "项目的截止日期改到了三月十五日": ("截止", "截止日期", "项目的截止日期是什么时候"),
        "妈妈喜欢喝龙井，不喜欢别的茶": ("茶", "龙井"),
        "服务器的ＡＰＩ密钥存放在保险箱里": ("API密钥", "密钥", "保险箱", "API密钥在哪里？"),
        "伺服器搬到臺北機房了": ("伺服器", "臺北", "伺服器在哪裡"),
    },
    "japanese": {
        "去年の秋に京都の寺を二つ訪れた": ("京都", "寺", "京都の寺はどこですか"),
        "新しいキーボードを買った": ("キーボード", "ｷｰﾎﾞｰﾄﾞ", "新しいキーボード"),
        "猫の名前はタマです": ("猫", "タマ", "猫の名前は何ですか？"),
        "毎朝コーヒーを二杯飲む": ("コーヒー", "朝", "コーヒーを何杯飲みますか"),
        "ﾊﾟｽﾜｰﾄﾞは金庫にある": ("パスワード", "金庫", "パスワードはどこにありますか"),
        "田中さんは来週大阪に引っ越す": ("田中さん", "大阪", "田中さんはどこに引っ越しますか"),
        apart("先生がギターをくれた"): ("先生が", "ギター"),
    },
    "korean": {
        "신용카드를 지갑에서 잃어버렸다": ("카드", "신용카드", "지갑", "신용카드는 어디에서 잃어버렸어?"),
        "우리 고양이는 참치를 좋아한다": ("고양이", "고양이가", "참치는", apart("고양이")),
        "책을 도서관에 돌려줬다": ("책", "책이", "도서관"),
        "서울에서 부산까지 기차를 탔다": ("부산", "부산은", "서울에서는", "기차"),
        "물을 하루에 여덟 잔 마신다": ("물", "물은"),
        apart("회의실 비밀번호는 칠판에 있다"): ("비밀번호", "회의실", "비밀번호가 뭐였지?"),
    },
    "thai and its neighbours": {
        "แมวของฉันชื่อมะลิ": ("แมว", "มะลิ", "แมวชื่ออะไร"),
        "ร้านกาแฟอยู่ใกล้สถานีรถไฟ": ("กาแฟ", "สถานีรถไฟ", "ร้านกาแฟอยู่ที่ไหน"),
        "แม่ชอบดื่มชาเขียว": ("ชา", "ชาเขียว"),
        "รหัสผ่านเก็บไว้ในตู้เซฟ": ("รหัสผ่าน", "ตู้เซฟ"),
        "น้ำท่วมกรุงเทพเมื่อปี ๒๕๕๔": ("น้ำท่วม", "กรุงเทพ", "2554"),
        "ຂ້ອຍມັກກິນເຂົ້າໜຽວ": ("ເຂົ້າໜຽວ", "ມັກ"),
        "ខ្ញុំចូលចិត្តកាហ្វេទឹកដោះគោ": ("កាហ្វេ", "ទឹកដោះគោ"),
        "ကျွန်တော်ကော်ဖီကြိုက်တယ်": ("ကော်ဖီ", "ကြိုက်တယ်"),
    },
    "arabic, persian, hebrew": {
        "الكِتَابُ الأزرق على الطاولة": ("كتاب", "الكتاب", "الازرق", "كتـــاب", "أين الكتاب الأزرق؟"),
        "إسماعيل يعمل في مستشفى المدينة": ("اسماعيل", "مستشفي", "مستشفى", "أين يعمل إسماعيل؟"),
        "مكتبة الجامعة مغلقة يوم ١٥ مايو": ("مكتبه", "المكتبة", "15 مايو"),
        "ﻣﺮﺣﺒﺎ ﺑﻜﻢ ﻓﻲ ﺍﻟﻤﺘﺠﺮ": ("مرحبا", "متجر"),
        "شماره تلفن من ۰۹۱۲۳۴۵۶۷۸۹ است": ("09123456789", "٠٩١٢٣٤٥٦٧٨٩"),
        "کتاب‌های فارسی روی قفسه هستند": ("فارسي", "قفسه"),
        "שָׁלוֹם לכל החברים": ("שלום",),
    },
    "hindi": {
        "मेरी बिल्ली का नाम मोती है": ("बिल्ली", "मोती", "बिल्ली का नाम क्या है"),
        "दिल्ली में बारिश हो रही है": ("दिल्ली", "बारिश"),
        "पासवर्ड नीली क़िताब में लिखा है": ("पासवर्ड", "किताब", "क\u093cिताब"),
        "बैठक १५ मार्च को होगी": ("बैठक", "15 मार्च"),
    },
    "russian": {
        "Ключи лежат в зелёной коробке": ("ключи", "зеленой", "ЗЕЛЁНОЙ коробке", "где лежат ключи"),
        "Йогурт купила Алёна": (apart("йогурт"), "Алена", "кто купил йогурт"),
        "Кот Барсик боится грозы": ("кот", "чего боится Барсик?"),
    },
    "german": {
        "Die Straße nach Köln ist gesperrt": ("Strasse", "straße", "STRASSE", "koln", apart("Köln")),
        "Der Hund hat die Fußmatte gefressen": ("fussmatte", "Was hat der Hund gefressen?"),
        "Mein Bäcker öffnet um sechs": ("bäcker", "backer", "Wann öffnet der Bäcker?"),
    },
    "french": {
        "L'été dernier, nous étions à Orléans": ("été", "ete", "orleans", "Où étions-nous l'été dernier ?"),
        "Ma sœur préfère le thé à la bergamote": ("sœur", "soeur", "bergamote", "Que préfère ma sœur ?"),
        "La façade du café est bleue": ("facade", apart("façade"), "façade cafe"),
    },
    "spanish and portuguese": {
        "El cumpleaños de Ana es el 3 de mayo": ("cumpleaños", "cumpleanos", "¿Cuándo es el cumpleaños de Ana?"),
        "El perro comió piña": ("piña", "pina", "¿Qué comió el perro?"),
        "La contraseña está en el cajón": ("contraseña", apart("cajón"), "¿Dónde está la contraseña?"),
        "A reunião começa às três": ("reunião", "reuniao", "Quando começa a reunião?"),
        "O pão de queijo da avó": ("pão", "avó"),
    },
    "turkish, vietnamese, polish, danish": {
        "IŞIK sönmeden çıkma": ("ışık", "isik", "Işık"),
        "İstanbul'da yağmur yağıyor": ("istanbul", "İSTANBUL", apart("yağmur")),
        "Đường Nguyễn Huệ rất đông": ("đường", "duong", apart("Nguyễn"), "nguyen hue"),
        "Mẹ tôi nấu phở bò": ("phở", apart("phở bò")),
        "Pociąg do Łodzi odjeżdża rano": ("lodzi", "ŁODZI", "pociąg"),
        "Færgen til Ærø sejler klokken ni": ("ærø", "aero", "faergen"),
    },
    "emoji": {
        "we walked along the river 🐶": ("🐶",),
        "they all came for dinner 👨‍👩‍👧‍👦": ("👨‍👩‍👧‍👦",),
        "our newest colleague 👩‍💻": ("👩‍💻", "💻"),
        "the flight is booked 🇩🇪": ("🇩🇪",),
        "great work everybody 👍🏽": ("👍", "👍🏿", "👍🏽"),
        "this album ❤️ again and again": ("❤", "❤️"),
        "for England 🏴󠁧󠁢󠁥󠁮󠁧󠁿 only": ("🏴󠁧󠁢󠁥󠁮󠁧󠁿",),
    },
    "names in code": {
        "lexicalCandidates builds the expression": (
            "lexicalCandidates",
            "lexical candidates",
            "lexical_candidates",
            "LEXICALCANDIDATES",
        ),
        "max_retry_count is three by default": ("max_retry_count", "maxRetryCount", "retry count"),
        "the switch my-feature-toggle is off": ("my-feature-toggle", "feature toggle", "my_feature_toggle"),
        "call cache.flush() after the import": ("cache.flush()", "flush"),
        "run it with --dry-run first": ("--dry-run", "dry run"),
        "CVE-2026-12345 affects the parser": ("CVE-2026-12345", "cve 2026 12345", "ＣＶＥ－２０２６－１２３４５"),
        "upgraded to v1.2.3 on Friday": ("v1.2.3",),
        "commit 6b5d88d1f0 broke the build": ("6b5d88d1f0", "6B5D88D1F0"),
        "rustc says error[E0308]: mismatched types": ("E0308", "error[E0308]"),
        "HTTPServerConfig holds the ports": ("HTTPServerConfig", "http server config"),
        "std::chrono::steady_clock never jumps": ("std::chrono::steady_clock", "steady_clock"),
    },
    "paths and addresses": {
        "edit /etc/nginx/nginx.conf and reload": ("/etc/nginx/nginx.conf", "nginx.conf", "nginx"),
        "the mistake is in src/reverie/app.py": ("src/reverie/app.py", "reverie/app.py"),
        "C:\\Users\\petra\\plan.docx holds the plan": ("C:\\Users\\petra", "plan.docx", "C:\\\\Users\\\\petra"),
        "see https://docs.example.com/setup?step=2": ("https://docs.example.com/setup?step=2", "docs.example.com"),
        "write to anna.schmidt@example.org": ("anna.schmidt@example.org", "anna.schmidt"),
        "the plumber has +49 30 901820": ("+49 30 901820", "901820"),
        "her number is (555) 867-5309": ("867-5309", "(555) 867-5309"),
        "the audit takes place on 2026-11-21": ("2026-11-21", "２０２６－１１－２１"),
        "the printer is at 192.168.10.25": ("192.168.10.25",),
        "the bill was 1,250,000 in all": ("1,250,000",),
    },
    "mixed and short": {
        "用Python写的iPhone應用叫作Beacon": ("Python", "iPhone", "beacon", "应用Python"),
        "東京オフィスのWi-Fiパスワードはsakura2026": ("Wi-Fi", "sakura2026", "東京オフィス", "オフィスのwi-fi"),
        "Slack으로 회의록을 공유했다": ("Slack", "회의록"),
        "Ｗｅｂサーバーは８０８０番": ("8080", "webサーバー"),
        "거실의 NAS는 조용하다": ("NAS", "nas는", "거실"),
        "the AI seminar was full": ("AI", "ai"),
        "vitamin D3 with breakfast": ("D3",),
        "a 5G antenna on the roof": ("5G",),
        "𝐁𝐨𝐥𝐝 ﬁnish of the ½ marathon": ("bold", "finish"),
        "co\u00adoperative bank": ("cooperative",),
    },
}

TOP_THREE = frozenset({"책이"})
"""Questions whose line need not come first: two letters that also stand within another line's word, here 정책이, where
only a dictionary tells that 책 is the word in the one and 정책 in the other."""

NOT_FOUND = (
    ("cat", "please concatenate the files"),
    ("art", "a party for everybody"),
    ("25", "in the year 2559"),
    ("علم", "وصل معلم جديد"),
    ("кот", "котлеты на ужин"),
    ("की", "कीमत बहुत है"),
    ("5", "a 5G antenna on the roof"),
)
"""A word is not found within another one, in scripts that put spaces between words."""

RANKED_BELOW = (
    ("京都", "去年の秋に京都の寺を二つ訪れた", "東京都の人口は多い"),
    ("寺", "去年の秋に京都の寺を二つ訪れた", "高円寺は静かだ"),
    ("책", "책을 도서관에 돌려줬다", "책상이 참 넓다"),
    ("책", "책을 도서관에 돌려줬다", "정책이 바뀌었다"),
    ("물", "물을 하루에 여덟 잔 마신다", "선물이 도착했다"),
    ("v1.2.3", "upgraded to v1.2.3 on Friday", "upgraded to v1.3.2 on Monday"),
    ("🇩🇪", "the flight is booked 🇩🇪", "the train is booked 🇩🇰"),
)
"""A part of a longer word is a hit in Japanese and Korean, because words are written together there; but below the
word by itself. Chinese and Thai show no word by itself: there both are hits, in no promised order."""

OTHERS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("昨天我和同事", "下个月老板", "去年冬天邻居", "明年夏天我弟弟", "今天下午老师", "上星期医生"),
        ("买了一辆自行车", "修好了厨房的水管", "参加了马拉松比赛", "写完了一本小说", "搬进了新公寓", "学会了弹钢琴"),
    ),
    (
        ("弟は", "隣の人は", "社長は", "友達は", "医者は", "祖母は"),
        (
            "自転車を修理した",
            "庭に花を植えた",
            "小説を書き終えた",
            "映画を見に行く",
            "電車で帰った",
            "野菜を送ってくれた",
        ),
    ),
    (
        ("동생은", "이웃이", "사장님은", "친구가", "의사는", "할머니가"),
        (
            "자전거를 고쳤다",
            "마당에 꽃을 심었다",
            "소설을 다 썼다",
            "영화를 보러 갔다",
            "김치를 보냈다",
            "피아노를 배운다",
        ),
    ),
    (
        ("เพื่อนของผม", "คุณหมอ", "น้องสาว", "เจ้านาย", "คุณยาย", "เพื่อนบ้าน"),
        ("ซ่อมจักรยานเสร็จแล้ว", "ปลูกดอกไม้ในสวน", "เขียนนิยายจบ", "ไปดูหนังเมื่อวาน", "ส่งผักมาให้", "เรียนเปียโน"),
    ),
    (
        ("أخي الصغير", "جارتنا", "المدير", "صديقي", "الطبيب", "جدتي"),
        ("أصلح الدراجة", "زرعت الورد في الحديقة", "كتب رواية طويلة", "ذهب إلى السينما", "أرسل الخضار", "يتعلم البيانو"),
    ),
    (
        ("मेरा भाई", "पड़ोसी", "मालिक", "दोस्त", "डॉक्टर", "दादी"),
        ("साइकिल ठीक करता है", "बगीचे में फूल लगाता है", "उपन्यास लिखता है", "फ़िल्म देखने गया", "सब्ज़ी भेजती है", "पियानो सीखता है"),
    ),
    (
        ("Мой брат", "Соседка", "Начальник", "Подруга", "Врач", "Бабушка"),
        ("чинит велосипед", "сажает цветы в саду", "пишет роман", "идёт в кино", "прислала овощи", "учится играть"),
    ),
    (
        ("Mein Bruder", "Die Nachbarin", "Der Chef", "Meine Freundin", "Der Arzt", "Die Großmutter"),
        (
            "repariert das Fahrrad",
            "pflanzt Blumen im Garten",
            "schreibt einen Roman",
            "geht heute ins Kino",
            "übt Klavier",
        ),
    ),
    (
        ("Mon frère", "La voisine", "Le patron", "Mon amie", "Le médecin", "Ma grand-mère"),
        ("répare le vélo", "plante des fleurs au jardin", "écrit un roman", "va au cinéma", "apprend le piano"),
    ),
    (
        ("Mi hermano", "La vecina", "El jefe", "Mi amiga", "El médico", "La abuela"),
        ("arregla la bicicleta", "planta flores en el jardín", "escribe una novela", "va al cine", "aprende piano"),
    ),
    (
        ("Kardeşim", "Komşumuz", "Müdür", "Arkadaşım", "Doktor", "Büyükannem"),
        ("bisikleti tamir etti", "bahçeye çiçek dikti", "roman yazıyor", "sinemaya gitti", "piyano öğreniyor"),
    ),
    (
        ("Anh trai tôi", "Bà hàng xóm", "Sếp", "Bạn tôi", "Bác sĩ", "Bà ngoại"),
        ("sửa xe đạp", "trồng hoa trong vườn", "viết tiểu thuyết", "đi xem phim", "học đàn piano"),
    ),
    (
        ("My brother", "The neighbour", "The boss", "A friend", "The doctor", "Grandmother"),
        ("repairs the bicycle 🚲", "plants flowers in the garden 🌷", "is writing a novel 📚", "went to the cinema 🎬"),
    ),
    (
        ("in the log of", "the tests of", "a note about", "the owner of"),
        (
            "src/gateway/server.py",
            "/etc/nginx/mime.types",
            "CVE-2026-12354",
            "CVE-2025-12345",
            "v1.3.2",
            "v3.2.1",
            "minRetryDelay",
            "cache.evict()",
            "--dry-clean",
            "E0380",
            "https://www.example.com/setup?step=3",
            "anna@example.com",
            "2026-12-21",
            "2026-11-12",
            "192.168.25.10",
            "C:\\Users\\maria\\notes.txt",
        ),
    ),
)


def distractors() -> Iterator[str]:
    """Lines in the same languages that answer nothing."""
    for beginnings, endings in OTHERS:
        for number, (beginning, ending) in enumerate(product(beginnings, endings)):
            spaced = "" if unicodedata.name(beginning[-1]).startswith(("CJK", "HIRAGANA", "THAI")) else " "
            yield f"{beginning}{spaced}{ending}" + (" ..." if number % 2 else "")


def whole_corpus() -> FakeTranscripts:
    """Every line as a message of a session of its own, so that none profits from what stands beside it."""
    transcripts = FakeTranscripts()
    lines = [line for group in GOLDEN.values() for line in group]
    lines += [line for _, line in NOT_FOUND] + [below for _, _, below in RANKED_BELOW]
    for number, line in enumerate(dict.fromkeys((*distractors(), *lines))):
        transcripts.say(line, session_id=f"s{number}")
    return transcripts


def test_the_golden_set_is_large_enough() -> None:
    """More than a hundred and twenty questions, among more than three hundred lines that answer none of them."""
    assert sum(len(questions) for group in GOLDEN.values() for questions in group.values()) >= 120
    assert len(set(distractors())) >= 300


@pytest.mark.parametrize("language", GOLDEN)
async def test_the_line_that_answers_is_the_first_hit(open_index: OpenIndex, language: str) -> None:
    """Whatever the language and the notation, the line that holds the words of the question is found first."""
    async with open_index(transcripts=whole_corpus()) as memory:
        await memory.index.follow_transcripts()
        found = {
            (line, question): [hit.text for hit in (await memory.search(question, semantic=False, limit=3)).hits]
            for line, questions in GOLDEN[language].items()
            for question in questions
        }
    missed = {
        (line, question): hits
        for (line, question), hits in found.items()
        if line not in hits[: 3 if question in TOP_THREE else 1]
    }
    assert missed == {}


async def test_a_word_is_not_found_within_another(open_index: OpenIndex) -> None:
    """In scripts with spaces a question for a short word does not hit longer words that contain it."""
    async with open_index(transcripts=whole_corpus()) as memory:
        await memory.index.follow_transcripts()
        for question, line in NOT_FOUND:
            hits = (await memory.search(question, semantic=False, limit=100)).hits
            assert line not in [hit.text for hit in hits], question


async def test_a_word_by_itself_ranks_above_a_longer_one(open_index: OpenIndex) -> None:
    """Where parts of words are hits, the word that particles or spaces set apart comes first."""
    async with open_index(transcripts=whole_corpus()) as memory:
        await memory.index.follow_transcripts()
        for question, above, below in RANKED_BELOW:
            texts = [hit.text for hit in (await memory.search(question, semantic=False, limit=100)).hits]
            assert texts.index(above) < (texts.index(below) if below in texts else len(texts)), question
