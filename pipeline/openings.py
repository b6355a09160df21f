"""How an answer begins that does not begin with the summary: introductions, and refusals.

The phrases are those that models use in eleven languages, each taken only where an answer begins. A text may be about
such phrases, or speak of itself as I: so an introduction must announce a summary, a refusal must refuse the task.
"""

from __future__ import annotations

import re
from functools import cache

_COLON = r"[*_]{0,3}\s?[:：][*_]{0,3}"
_SUMMARY = {
    "en": r"summar(?:y|ies|i[sz]ation)|overview|synopsis|(?:condensed|shorte(?:r|ned)|short|brief) version"
    r"|(?:key|main) (?:points|facts)|tl;?dr",
    "de": r"zusammenfassung|kurzfassung|überblick|(?:kernpunkte|wichtigsten punkte)",
    "fr": r"résumé|synthèse|aperçu|points (?:clés|principaux)",
    "es": r"resumen|síntesis|puntos (?:clave|principales)",
    "it": r"riassunto|riepilogo|sintesi|sommario|punti (?:chiave|principali)",
    "pt": r"resumo|síntese|sumário|pontos (?:principais|chave)",
    "nl": r"samenvatting|overzicht|kernpunten|belangrijkste punten",
    "ru": r"резюме|сводка|краткое (?:содержание|изложение)|(?:ключевые|основные) (?:моменты|пункты)",
    "ko": r"요약(?:문)?",
    "ja": r"要約|まとめ|概要|サマリー",
    "zh": r"摘要|总结|總結|概述|概要|概括|小结",
}
"""Language → what a summary is called in it."""
_ANNOUNCING = {
    "en": r"(?:here(?:['’]s| is| are)|below (?:is|are)|the following (?:is|are)|this is)\b",
    "de": r"(?:hier (?:ist|sind|folgt|kommt)|nachfolgend|im folgenden|es folgt|dies ist|das ist)\b",
    "fr": r"(?:voici|voilà|ci-dessous|ceci est)\b",
    "es": r"(?:aquí (?:est[áa]n?|tienes?|tiene|va)|a continuación|este es|esta es)\b",
    "it": r"(?:ecco|(?:qui )?di seguito|questo è|questa è|segue)\b",
    "pt": r"(?:aqui (?:está|estão|vai|tem)|a seguir|segue|abaixo|este é)\b",
    "nl": r"(?:hier (?:is|volgt|zijn)|hieronder|dit is)\b",
    "ru": r"(?:вот|ниже|далее|это)\b",
    "ko": r"(?:다음은|아래는|아래에|여기|이것은|(?:이|해당) (?:페이지|글|텍스트|문서|기사))",
    "ja": r"(?:以下|こちら|次[はの]|これは)",
    "zh": r"(?:以下|这是|這是|下面|这里是)",
}
_POLITE = r"(?:[:：]|(?:입니다|같습니다|드리겠습니다|하겠습니다)[.:：]|(?:です|ます|ました)[。:：]|如下[。:：])"
"""How the announcement ends in Korean, Japanese and Chinese."""
_LABELLED = {
    "en": r"(?:(?:brief|short|concise|final|overall|page|text|article|document) ){0,3}",
    "de": r"(?:kurze )?",
    "fr": r"(?:(?:bref|court) )?",
    "es": r"(?:breve )?",
    "it": r"(?:breve )?",
    "pt": r"(?:breve )?",
    "nl": r"(?:korte )?",
    "ru": r"(?:краткое )?(?:содержание|изложение)?",
    "ko": r"(?:(?:페이지|본문|글|간단한|기사) ?(?:의 )?)?",
    "ja": r"(?:(?:ページ|本文|記事)の?)?",
    "zh": r"(?:内容|页面|文章|网页)?",
}
_SAYING = (
    r"(?:the|this) (?:(?:web ?)?page|text|article|document|passage|content|website|part|post)"
    r"(?: of (?:a|the|this) (?:web ?)?page)?"
    r" (?:is|says?|states?|reads?|explains?|describes?|contains?|covers?|reports?)"
    r"(?: the following| as follows| that)?",
    r"(?:(?:die|diese) (?:web)?seite|der (?:text|artikel)|das dokument) (?:be)?(?:sagt|lautet|schreibt|richtet"
    r"|enthält)"
    r"(?: folgendes)?",
    r"(?:(?:la|cette) page|le (?:texte|document)|l['’]article) (?:dit|indique|déclare|explique|affirme|contient)"
    r"(?: ceci| ce qui suit)?",
    r"(?:(?:la|esta) página|el (?:texto|artículo|documento)) (?:dice|indica|afirma|explica"
    r"|contiene)(?: lo siguiente)?",
    r"(?:(?:la|questa) pagina|il (?:testo|documento)|l['’]articolo) (?:dice|afferma|spiega|indica|contiene)"
    r"(?: quanto segue)?",
    r"(?:(?:a|esta) página|o (?:texto|artigo|documento)) (?:diz|afirma|indica|explica|contém)(?: o seguinte)?",
    r"(?:(?:de|deze) (?:web)?pagina|de tekst|het (?:artikel|document)) (?:zegt|vermeldt|luidt"
    r"|bevat)(?: het volgende)?",
    r"(?:(?:эта )?(?:страница|статья)|(?:этот )?(?:текст|документ)) (?:гласит|говорит|сообщает|рассказывает)"
    r"(?: следующее)?|(?:на (?:этой )?странице|в (?:тексте|статье)) (?:говорится|сказано|сообщается)(?: следующее)?",
    r"(?:(?:이|해당) )?(?:페이지|글|텍스트|문서|기사)(?:는|은|에는|의 내용은) ?(?:다음과 같습니다|다음과 같다"
    r"|이렇게 말합니다)",
    r"(?:この)?(?:ページ|記事|文章|テキスト)(?:は|には|の内容は)、?(?:(?:次|以下)のように|こう)?(?:述べて"
    r"|書かれて|言って)い(?:る|ます)"
    r"|(?:この)?(?:ページ|記事|文章|テキスト)の内容は(?:次|以下)の(?:とおり|通り)です",
    r"(?:该|这个|此|本)?(?:页面|网页|文章|文本)(?:说|指出|写道|称|表示|内容如下)",
)
_ASSENT = re.compile(
    r"(?i)¡?(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|alright|gladly|no problem|understood|got it"
    r"|klar|gerne?|natürlich|selbstverständlich|verstanden|bien sûr|certainement|d['’]accord|avec plaisir|volontiers"
    r"|claro(?: que sí)?|por supuesto|desde luego|con gusto|certo|certamente|volentieri|va bene|com certeza"
    r"|com prazer"
    r"|natuurlijk|zeker|uiteraard|конечно|разумеется|хорошо|с удовольствием"
    r"|네|예|물론(?:입니다|이죠)?|알겠습니다|좋습니다|はい|もちろん(?:です)?|承知(?:いた)?しました|わかりました"
    r"|了解しました"
    r"|当然(?:可以)?|當然(?:可以)?|好的|没问题|沒問題)(?:\s?([!！]+)|\s?[,，、.。:：])\s*"
)
_OFFER = re.compile(
    r"(?i)(?:i(?:['’]d| would) be (?:happy|glad) to|i can|i(?:['’]ll| will)|let me)\b[^\n.!:]{0,100}[.!:]\s*"
    r"|요약해 ?(?:드리겠습니다|보겠습니다)[.!]\s*|要約します。\s*"
)


@cache
def _introduction() -> re.Pattern[str]:
    """What introduces a summary, to be matched where an answer begins."""
    inside, after = r"[^\n:：.。]{0,120}?", r"[^\n:：.。]{0,80}?"
    forms = [rf"{_ANNOUNCING[tag]}{inside}(?:{noun}){after}{_end(tag)}" for tag, noun in _SUMMARY.items()]
    forms += [rf"{_LABELLED[tag]}(?:{noun}){_of(tag)}(?:{_COLON}|[*_]{{0,3}}\s*\n)" for tag, noun in _SUMMARY.items()]
    forms += [rf"(?:{saying})\s?[:：]" for saying in _SAYING]
    forms.append(rf"here(?:['’]s| is) what the (?:page|text|article|document) (?:says|is about){after}[:：]")
    lead = r"(?:(?:based on|according to|from) (?:the|this) [^\n:：.,]{0,60},\s*)?"
    return re.compile(rf"(?i)[#*_>\s]{{0,8}}{lead}(?:{'|'.join(forms)})\s*")


def _end(tag: str) -> str:
    if tag in ("ko", "ja", "zh"):
        return _POLITE
    # "Here is a summary of the page." ends with a full stop as often.
    return rf"(?:{_COLON}|\.[ ]*\n)"


def _of(tag: str) -> str:
    """`Summary of the page`, `Zusammenfassung des Textes`, …; other languages set it before."""
    if tag in ("ko", "ja", "zh"):
        return ""
    of = "of|in|for|der|des|von|de|du|del|della|dell|do|da|van|на|по"
    return rf"(?: (?:{of})\b[^\n:：.]{{0,80}}?)?(?: ?\([^()\n]{{0,40}}\))?"


def opening(text: str) -> int:
    """Where the summary begins, behind what introduces it."""
    at = 0
    while (end := _introduced(text, at)) > at:
        at = end
    return at


def _introduced(text: str, at: int) -> int:
    if match := _introduction().match(text, at):
        return match.end()
    if assent := _ASSENT.match(text, at):
        # "Sure, the bridge is old" is no assent: an offer or an introduction follows on one, or it is cried out.
        if match := _OFFER.match(text, assent.end()) or _introduction().match(text, assent.end()):
            return match.end()
        return assent.end() if assent[1] else at
    return at


_SORRY = (
    r"(?:(?:i['’]m|i am) (?:very |so |really )?sorry,?|sorry,?|unfortunately,?|my apologies[.,]?"
    r"|i apologi[sz]e[^\n.]{0,60}[.,]"
    r"|(?:es )?tut mir (?:sehr )?leid,?|leider|entschuldigung,?"
    r"|(?:je suis )?(?:vraiment )?désolée?,?|malheureusement,?|je m['’]excuse,?"
    r"|lo siento(?: mucho)?,?|lamentablemente,?|disculpa,?|mi dispiace,?|purtroppo,?|mi scuso,?"
    r"|desculpe,?|lamento,?|sinto muito,?|infelizmente,?|het spijt me,?|helaas,?|excuses,?"
    r"|извините,?|простите,?|к сожалению,?|прошу прощения,?)?\s{0,2}(?:but|aber|mais|pero|ma|mas|maar|но)?\s{0,2}"
)
_REFUSAL = (
    # English
    r"as an? (?:ai|artificial intelligence)(?: language)?(?: model| assistant| chatbot| system)?,? (?:i|my)\b",
    r"as a (?:large )?language model,? (?:i|my)\b",
    r"i(?: can(?:not|['’]t| not)|(?: am|['’]m) (?:unable|not able)| do not| don['’]t| will not| won['’]t"
    r"| could ?n[o'’]t|"
    r"(?: am|['’]m) not)\b[^\n.]{0,60}\b(?:summari[sz]\w+|provide|assist|help (?:with|you)|fulfil+|comply"
    r"|access|process|"
    r"browse|generate|continue|fetch|see any (?:text|page|content)|have (?:enough|the ability|any (?:text"
    r"|information))|"
    r"designed to|programmed to|comfortable)\b",
    r"(?:please|could you(?: please)?) (?:provide|paste|share|send)(?: me)?(?: with)? (?:the|your|a|some|more)\b"
    r"[^\n.]{0,40}\b(?:text|content|page|article|document|information)\b[^\n.]{0,60}\b(?:summari[sz]\w+"
    r"|so (?:that )?i)\b",
    r"(?:there is no|no) (?:text|content|page)[^\n.]{0,30}\b(?:provided|given|to summari[sz]e)\b",
    r"(?:the|this) (?:page|text|document|article) (?:is (?:empty|blank)|contains no (?:text|content"
    r"|information))\.?\s*\Z",
    # German, French, Spanish, Italian, Portuguese, Dutch, Russian
    r"als (?:ki|künstliche intelligenz|(?:ein )?sprachmodell|ki-\w+)\b[^\n.]{0,20}\b(?:kann|bin|habe|darf) ich\b",
    r"(?:ich (?:kann|darf|bin)|kann ich|bin ich)\b[^\n.]{0,60}\b(?:nicht|keine?n?)\b[^\n.]{0,60}"
    r"(?:zusammenfass|helfen|erstellen|zugreifen|zugriff|beantworten|verarbeiten|in der lage|unterstützen)",
    r"en tant qu(?:['’]ia|['’]intelligence artificielle|['’]assistant|e modèle)\b[^\n.]{0,40}\bje\b",
    r"je ne (?:peux|puis|suis|dispose) (?:malheureusement )?pas\b[^\n.]{0,60}"
    r"(?:résumer|vous aider|fournir|accéder|accès|répondre|traiter|capable|en mesure)",
    r"como (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje)\b[^\n.]{0,30}\bno\b",
    r"no (?:puedo|tengo|soy capaz)\b[^\n.]{0,60}(?:resumir|ayudarte|ayudarle|proporcionar|acceder|acceso"
    r"|responder|procesar)",
    r"(?:come|in quanto) (?:ia|intelligenza artificiale|modello linguistico)\b[^\n.]{0,30}\bnon\b",
    r"non (?:posso|sono in grado|riesco|ho)\b[^\n.]{0,60}(?:riassumere|aiutarti|aiutarla|fornire|accedere"
    r"|accesso|rispondere)",
    r"como (?:uma? )?(?:ia|inteligência artificial|modelo de linguagem)\b[^\n.]{0,30}\bnão\b",
    r"(?:eu )?não (?:posso|consigo|tenho|sou capaz)\b[^\n.]{0,60}"
    r"(?:resumir|ajudar|ajudá-l|fornecer|acessar|aceder|acesso|responder|processar)",
    r"als (?:ai|(?:een )?taalmodel|kunstmatige intelligentie)\b[^\n.]{0,20}\b(?:kan|ben|heb) ik\b",
    r"(?:ik (?:kan|ben|heb|mag)|kan ik|ben ik|heb ik)\b[^\n.]{0,60}\b(?:niet|geen)\b[^\n.]{0,60}"
    r"(?:samenvatten|helpen|toegang|verstrekken|beantwoorden|verwerken|in staat)",
    r"как (?:ии|искусственный интеллект|языковая модель),? я\b",
    r"(?:я )?не (?:могу|имею|способен|в состоянии)\b[^\n.]{0,60}"
    r"(?:помочь|предоставить|доступ|ответить|обработать|обобщить|резюмировать|пересказать)",
    # Korean, Japanese, Chinese
    r"(?:죄송|미안|안타깝게도|유감)[^\n]{0,80}(?:수 없|어렵습니다|못합니다)",
    r"(?:저는 )?(?:ai|인공지능|언어 모델)(?: 언어)?(?: 모델)?(?:로서|으로서|이므로|이기 때문에)",
    r"(?:저는|제가|현재)[^\n.]{0,60}(?:요약|도움|제공|접근|답변)[^\n.]{0,20}수 없",
    r"(?:申し訳|すみません|残念ながら|恐れ入りますが)[^\n]{0,80}(?:できません|できかねます|いたしかねます)",
    r"(?:私は)?(?:ai|人工知能|言語モデル)(?:として|なので|であるため)",
    r"(?:要約|回答|お手伝い|アクセス)[^\n。]{0,20}(?:できません|できかねます)",
    r"(?:抱歉|对不起|對不起|很遗憾|不好意思)[^\n]{0,60}(?:无法|不能|無法)",
    r"(?:作为|身为|作為)(?:一个|一名|一個)?(?:ai|人工智能|大?型?语言模型|語言模型)[^\n。]{0,20}我",
    r"我(?:无法|不能|無法)[^\n。]{0,40}(?:总结|摘要|概括|提供|帮助|协助|访问|回答|处理)",
)


@cache
def _refusals() -> re.Pattern[str]:
    return re.compile(rf"(?i)(?:{_SORRY})(?:{'|'.join(_REFUSAL)})")


def refusal(text: str) -> str:
    """The words with which an answer refuses to summarize; empty if it does not begin with such."""
    match = _refusals().match(text.lstrip())
    return match[0].strip() if match else ""
