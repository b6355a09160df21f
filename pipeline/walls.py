"""Why a page has next to no text: it is a shell for a script, a wall in front of the page, or no page. Pure.

A wrong word here loses a good page, a missing one stores a notice as it stands. So each takes two signs that are
independent of one another, and a text of some length is never doubted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.records import Reason, Refusal

SHORT_CHARACTERS = 600
"""A longer text is a page's own, whatever words stand in it."""
NOTICE_CHARACTERS = 300
LABEL_CHARACTERS = 100
FEWEST_CHARACTERS = 10
"""That say something: `Ferme le lundi.` does, `Loading...` is seen to by its own sign, `OK` does not."""


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


WANTS_SCRIPTS = _words(
    r"\b(?:enable|turn on|activate|allow|requires?|needs?|without)\b[^.]{0,40}\bjava ?script\b",
    r"\bjava ?script\b[^.]{0,40}\bis (?:disabled|not available|not enabled|required|needed|turned off)",
    r"\bjava ?script\b[^.]{0,40}\b(?:aktivier|einschalt|deaktiviert|benötigt)",
    r"\bjava ?script\b[^.]{0,40}\b(?:activ[ée]|désactivé|activar|activado|habilit|attiv|inschakel|włącz)",
    r"\b(?:aktiviere|activ[ea]|habilit|attiva|schakel|włącz)\w*\b[^.]{0,40}\bjava ?script\b",
    r"\b(?:включ|отключ)\w*[^.]{0,40}java ?script|java ?script[^.]{0,40}(?:включ|отключ)",
    r"(?:java ?script|자바스크립트)[^.。]{0,20}(?:활성|사용|켜|必要|有効|有效|啟用|启用|無効|禁用|停用)",
    r"(?:启用|啟用|开启|開啟|打开)[^.。]{0,10}java ?script",
)
CHECKS_FOR_ROBOTS = _words(
    r"checking (?:if the site connection is secure|your browser before)",
    r"verify(?:ing)? (?:that )?you are (?:a )?human",
    r"\bare you a robot\?|\b(?:sure|confirm|verify|prove)\b[^.]{0,20}\bnot a robot|\bcomplete the captcha",
)
LOADS = _words(
    r"^\W*(?:loading|please wait|wird geladen|bitte warten|chargement|cargando|caricamento|ładowanie)\W*$",
    r"^\W*(?:загрузка|読み込み中|ロード中|로딩 ?중|加载中|載入中)\W*$",
)
MISSING = _words(
    r"^\W*(?:(?:error|fehler|erreur|errore|erro|ошибка|błąd)\W*)?404\b",
    r"\bpage (?:was |is |could |can)?(?:not (?:be )?found|not be found|missing)|^\W*not found\W*$",
    r"\bpage (?:you (?:were|are) looking for|you requested|no longer exists|does(?: not|n['’]t) exist)",
    r"\bpage (?:can|could ?n)['’]t be found|\bpage is(?: not|n['’]t| no longer) available",
    r"\bseite (?:wurde |konnte )?(?:leider )?nicht gefunden|\bseite existiert (?:leider )?nicht",
    r"\bpage (?:introuvable|non trouvée|n['’]existe (?:pas|plus))",
    r"\bpágina (?:que [^.]{1,30} )?(?:no|não) (?:encontrada|existe)",
    r"\bpagina (?:non (?:trovata|esiste)|niet gevonden|bestaat niet)",
    r"\bstron[ay] nie (?:została )?znalezion|\bnie znaleziono strony|\bstrona nie istnieje",
    r"\bsayfa bulunamadı|\bстраниц[аы] не (?:найдена|существует)",
    r"페이지를 찾을 수 없|존재하지 않는 페이지",
    r"ページ[はが](?:見つかりません|存在しません)|お探しのページ",
    r"(?:页面|頁面|网页|網頁)(?:不存在|未找到|找不到)|找不到(?:该|此|您)?[^，。]{0,6}(?:页面|頁面|网页|網頁)",
)
SIGNS_IN = _words(
    r"\b(?:log|sign)[ -]?in\b|\blogin\b",
    r"\banmeld|\beinloggen\b|\binloggen\b|\bzaloguj|\bgiriş yap",
    r"\bconnexion\b|\bse connecter\b|\biniciar sesión\b|\baccedi\b|\bentrar\b",
    r"\bвойти\b|\bвход\b",
    r"로그인|ログイン|サインイン|登录|登入",
)
FOR_SUBSCRIBERS = _words(
    r"\bsubscribe (?:now )?to (?:continue|keep) reading|\bsubscribe to (?:read|unlock)",
    r"\bto (?:continue|keep) reading,? (?:please )?(?:subscribe|log in|sign)",
    r"\b(?:article|story|post|content) is (?:only )?(?:available |reserved |exclusive(?:ly)? )?(?:for|to) (?:our )?"
    r"(?:paid |paying )?subscribers",
    r"\bnur für abonnent|\babo\b[^.]{0,30}\bweiterlesen|\bweiterlesen mit\b|\balleen voor abonnees",
    r"\bréservée? (?:à nos|aux) abonnés|\bexclusiv[oa] para (?:suscriptores|assinantes)|\briservat[oa] agli abbonati",
    r"\btylko dla (?:subskrybentów|prenumeratorów)|\bтолько (?:для|по) подпис",
    r"구독자 전용|유료 (?:회원|구독)",
    r"有料会員限定|有料会員の方",
    r"(?:订阅|訂閱)(?:后|後)?(?:继续|繼續)|付费(?:阅读|内容)",
)
NOT_FREE = re.compile(r'"isAccessibleForFree"\s*:\s*"?false', re.IGNORECASE)
USES_COOKIES = _words(
    r"\b(?:uses?|using|store|accept(?: all)?|use of) (?:\w+ )?cookies\b|\bcookie (?:consent|policy|settings)",
    r"\bwe value your privacy",
    r"\b(?:verwende[nt]|nutz(?:en|t)|setz(?:en|t)|akzeptiere\w*) (?:\w+ ){0,3}cookies",
    r"\butilis(?:ons|e) des (?:cookies|traceurs)|\b(?:utilizamos|usamos) cookies|\butilizziamo (?:i )?cookie",
    r"\b(?:gebruiken|maken gebruik van) cookies|\bużywamy (?:plików )?cookie|\bиспольз\w+ (?:файлы )?cookie",
    r"쿠키를 사용",
    r"cookie ?を使用|クッキーを使用",
    r"使用 ?cookies?",
)
ABOUT_CONSENT = _words(
    r"cookie|consent|privacy|personal data|partners|vendor",
    r"datenschutz|einwillig|zustimm|toestemming|prywatno|конфиденциальн",
    r"confidentialité|traceur|privacidad",
    r"쿠키|개인정보|동의|クッキー|プライバシー|同意|隐私|隱私",
)
ACCEPTS = _words(
    r"\b(?:accept|agree|allow|consent|got it)\b",
    r"\b(?:akzeptieren|zustimmen|einverstanden|accepteren|akkoord|akceptuj\w*|zgadzam|kabul)\b",
    r"\b(?:accepter|j.accepte|aceptar|aceitar|accetta\w*|принять|соглас\w+)\b",
    r"동의|수락|同意|许可|接受",
)


@dataclass(frozen=True, slots=True)
class Signs:
    """What is known of a page whose text is short."""

    text: str
    """What was taken for its text."""
    seen: str
    """All words that are seen, menus and all."""
    heading: str
    """Its title and its first heading, a line each."""
    controls: str
    """What its buttons and links say."""
    without_scripts: str
    data: str
    has_scripts: bool
    has_password: bool
    has_paywall: bool


def wall(signs: Signs) -> Refusal | None:
    """Why there is no text; `None` if what was taken for it is one."""
    if len(signs.text) >= SHORT_CHARACTERS:
        return None
    for reason, sign in (
        (Reason.SOFT_404, _missing),
        (Reason.LOGIN, _login),
        (Reason.PAYWALL, _paywall),
        (Reason.CONSENT_WALL, _consent),
        (Reason.JS_SHELL, _shell),
    ):
        if detail := sign(signs):
            return Refusal(reason, " ".join(detail.split())[:200])
    if len(signs.text) < FEWEST_CHARACTERS:
        return Refusal(Reason.NO_TEXT, f"{len(signs.text.split())} words")
    return None


def _missing(signs: Signs) -> str:
    for line in signs.heading.splitlines():
        if len(line) < 100 and MISSING.search(line):
            return line
    return ""


def _login(signs: Signs) -> str:
    if not signs.has_password:
        return ""
    named = next((line for line in signs.heading.splitlines() if SIGNS_IN.search(line)), "")
    if not named and len(signs.text) < LABEL_CHARACTERS and SIGNS_IN.search(f"{signs.text} {signs.controls}"):
        return signs.text or "only a form for a password"
    return named


def _paywall(signs: Signs) -> str:
    if found := FOR_SUBSCRIBERS.search(signs.text):
        return signs.text[found.start() :]
    if NOT_FREE.search(signs.data):
        return "the page says that it is not free"
    return "a paywall stands in the page" if signs.has_paywall and FOR_SUBSCRIBERS.search(signs.seen) else ""


def _consent(signs: Signs) -> str:
    notice = signs.text or signs.seen[:SHORT_CHARACTERS]
    if not USES_COOKIES.search(notice) or not ACCEPTS.search(signs.controls):
        return ""
    sentences = re.split(r"(?<=[.!?。])\s*|\n", notice)
    about = sum(len(sentence) for sentence in sentences if ABOUT_CONSENT.search(sentence))
    return notice if about * 2 > len(notice) else ""


def _shell(signs: Signs) -> str:
    if not signs.has_scripts:
        return ""
    for asks in (WANTS_SCRIPTS, CHECKS_FOR_ROBOTS, LOADS):
        if len(signs.text) < NOTICE_CHARACTERS and asks.search(signs.text):
            return signs.text
    if not signs.text and WANTS_SCRIPTS.search(f"{signs.without_scripts} {signs.seen}"):
        return "the page only asks for JavaScript"
    return "" if signs.seen else "nothing is there before its scripts run"
