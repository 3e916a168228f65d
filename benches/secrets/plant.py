"""Writes secrets of twenty kinds, drawn by a seed, in sentences and layouts of many languages.

    python benches/secrets/plant.py --seed 3 --per-kind 10 > planted.jsonl

A line is an item of the demo's history: `prompt`, `response`, and `secrets`, a list of `{"kind", "side", "secret"}` with at
most one secret for the prompt and one for the response. Every secret is drawn anew, with its checksum where it has one.
"""

import argparse
import base64
import hashlib
import json
import pathlib
import random
import string

ALICE = pathlib.Path(__file__).parents[2] / "models/alice/history.jsonl"
ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
BASE32 = string.ascii_uppercase + "234567"


class Kinds:
    """Each method draws one secret and the texts in which it may stand; `~` is its place."""

    def __init__(self, rng, words):
        self.rng, self.words = rng, words

    def signs(self, n, alphabet=ALNUM):
        return "".join(self.rng.choice(alphabet) for _ in range(n))

    def any(self, *choices):
        return self.rng.choice(choices)

    def password(self):
        word = self.any("harbour", "Wanderer", "tulipan", "Regenbogen", "citron", "montagne", "Sturmvogel", "sakura")
        secret = self.any(
            f"{word}{self.rng.randrange(10, 9999)}",
            f"{word.capitalize()}{self.rng.randrange(10, 99)}{self.any(*'!?#$*')}",
            self.signs(self.rng.randrange(8, 18), ALNUM + "!#$%&*+-=?@^_") + self.any(*string.digits),
        )
        lone = [
            "Password: ~", "password = ~", "Passwort: ~", "Mot de passe : ~", "Contraseña: ~", "Senha: ~", "Wachtwoord: ~",
            "Hasło: ~", "Пароль: ~", "パスワード：~", "密码：~", "비밀번호: ~", "Şifre: ~", "Lösenord: ~", "- **Password**: ~",
            "user: anna\npassword: ~", "| password | ~ |", "DB_PASSWORD=~", '{"user": "anna", "password": "~"}',
            "Kennwort fürs Gästenetz: ~", "Login anna, Passwort ~", "Adgangskode: ~", "Salasana: ~", "Пароль от почты: ~",
        ]
        prose = [
            "The password for the boathouse computer is ~, please do not lose it.", "My wifi password is ~ by the way.",
            "The wifi password at the cabin was changed to ~.", "Use the passphrase ~ for the archive.",
            "Das WLAN-Passwort lautet ~, bitte nicht weitergeben.", "Das Kennwort ist jetzt ~.", "Mein Passwort ist ~.",
            "Le mot de passe du routeur est ~, garde-le.", "Le mot de passe, c'est ~.", "La contraseña del correo es ~.",
            "La password del router è ~.", "A senha do Wi-Fi é ~, não esqueça.", "Het wachtwoord van de wifi is ~.",
            "Hasło do routera to ~.", "Пароль от вайфая — ~, запиши.", "Пароль такой: ~", "Wi-Fiのパスワードは~です。",
            "无线密码是~，别告诉别人。", "와이파이 비밀번호는 ~ 입니다.", "Wi-Fi şifresi ~ oldu.", "Lösenordet till nätet är ~.",
            'The password is "~".', "Das Passwort war „~“.", "log in with anna and the password ~ tonight",
        ]
        return secret, lone + prose

    def pin(self):
        secret = self.signs(self.any(4, 4, 4, 6), string.digits)
        return secret, [
            "The PIN is ~.", "PIN: ~", "My card's PIN code is ~, if you must.", "PIN ~ for the front door.", "Geheimzahl: ~",
            "Die PIN lautet ~.", "Le code PIN est ~.", "code PIN : ~", "El código PIN es ~.", "Il codice PIN è ~.",
            "O código PIN é ~.", "De pincode is ~.", "Kod PIN to ~.", "ПИН-код: ~", "暗証番号は~です。", "핀 번호는 ~ 입니다.",
            "PIN kodu ~ idi.", "Pinkoden är ~.", "the alarm code is ~", "CVV ~, valid until 11/29",
        ]

    def card(self):
        prefix, n = self.any(("4", 16), ("5" + str(self.rng.randrange(1, 6)), 16), ("37", 15), ("6011", 16), ("2221", 16))
        body = prefix + self.signs(n - 1 - len(prefix), string.digits)
        check = next(str(d) for d in range(10) if luhn(body + str(d)))
        number = body + check
        sizes = (4, 6, 5) if n == 15 else (4, 4, 4, 4)
        secret = self.any("", " ", "-", " ").join(parts(number, sizes))
        return secret, [
            "My card is ~, it expires in December.", "Card: ~", "card no. ~ exp 04/29 cvv below", "Kreditkarte ~, gültig bis 4/29.",
            "Le numéro de la carte est ~.", "Mi tarjeta: ~", "La carta è la ~.", "O cartão é ~, validade 04/29", "Карта ~",
            "カード番号は~です。", "信用卡号~，明年到期", "카드 번호는 ~ 입니다", "Kart numaram ~.", "Kortet har nummer ~.",
            "Pay with ~ and send me the bill.", "2 tickets on ~ please", "(~)", "Numer karty: ~",
        ]

    def iban(self):
        country, form = self.any(
            ("DE", "18d"), ("FR", "23d"), ("ES", "20d"), ("NL", "4u10d"), ("GB", "4u14d"), ("IT", "1u22d"), ("PL", "24d"),
            ("SE", "20d"), ("TR", "22d"), ("CH", "17d"), ("AT", "16d"), ("BE", "12d"), ("PT", "21d"),
        )
        letters, numbers = form[:-1].split("u") if "u" in form else ("0", form[:-1])
        body = self.signs(int(letters), string.ascii_uppercase) + self.signs(int(numbers), string.digits)
        value = "".join(str(int(c, 36)) for c in body + country + "00")
        number = f"{country}{98 - int(value) % 97:02}{body}"
        secret = self.any(number, " ".join(number[i : i + 4] for i in range(0, len(number), 4)))
        return secret, [
            "Please send it to ~.", "IBAN: ~", "IBAN ~ BIC COBADEFFXXX", "Meine IBAN ist ~, danke!", "Überweise es auf ~ bis Freitag.",
            "Mon IBAN : ~", "Mi cuenta es ~.", "Il mio conto è ~.", "A conta é ~", "Mijn rekening is ~.", "Konto: ~",
            "Мой счёт ~.", "振込先は~です", "账户~", "Hesabım ~.", "Mitt konto är ~.", "Transfer 40 to ~ (Anna Berg).", "| Anna | ~ |",
        ]

    def identity(self):
        secret = getattr(self, self.any("ssn", "dni", "nir", "pesel", "cpf", "resident", "kimlik", "personnummer", "snils"))()
        return secret, [
            "My number is ~.", "Id: ~", "they asked for ~ again", "Meine Nummer ist ~.", "Mon numéro est ~.", "Mi número es ~.",
            "Il mio numero è ~.", "O meu número é ~.", "Mój numer to ~.", "Мой номер ~.", "番号は~です", "我的号码是~。",
            "Numaram ~.", "Mitt nummer är ~.", "born in May, ~, as on the form", "(~)",
        ]

    def date(self):
        return f"{self.rng.randrange(50, 99):02}", f"{self.rng.randrange(1, 13):02}", f"{self.rng.randrange(1, 29):02}"

    def ssn(self):
        return f"{self.rng.randrange(100, 650)}-{self.rng.randrange(10, 99)}-{self.rng.randrange(1000, 9999)}"

    def dni(self):
        number = self.rng.randrange(10_000_000, 99_999_999)
        return f"{number}{self.any('', '-')}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"

    def nir(self):
        year, month, _ = self.date()
        body = f"{self.any(1, 2)}{year}{month}{self.rng.randrange(10, 95)}{self.signs(6, string.digits)}"
        key = f"{97 - int(body) % 97:02}"
        return self.any(body + key, " ".join(parts(body + key, (1, 2, 2, 2, 3, 3, 2))))

    def pesel(self):
        body = "".join(self.date()) + self.signs(4, string.digits)
        return body + str(-sum(int(d) * w for d, w in zip(body, (1, 3, 7, 9) * 3)) % 10)

    def cpf(self):
        body = self.signs(9, string.digits)
        for n in (10, 11):
            body += str(sum(int(d) * w for d, w in zip(body, range(n, 1, -1))) * 10 % 11 % 10)
        return f"{body[:3]}.{body[3:6]}.{body[6:9]}-{body[9:]}"

    def resident(self):
        year, month, day = self.date()
        body = f"{self.rng.randrange(110000, 650000)}19{year}{month}{day}{self.signs(3, string.digits)}"
        weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
        return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, weights)) % 11]

    def kimlik(self):
        d = [self.rng.randrange(1, 10)] + [self.rng.randrange(10) for _ in range(8)]
        d.append((7 * sum(d[0:9:2]) - sum(d[1:8:2])) % 10)
        return "".join(map(str, [*d, sum(d) % 10]))

    def personnummer(self):
        body = "".join(self.date()) + self.signs(3, string.digits)
        check = next(str(c) for c in range(10) if luhn(body + str(c)))
        return f"{self.any('', '19')}{body[:6]}-{body[6:]}{check}"

    def snils(self):
        body = self.signs(9, string.digits)
        check = sum(int(d) * w for d, w in zip(body, range(9, 0, -1))) % 101 % 100
        return f"{body[:3]}-{body[3:6]}-{body[6:]} {check:02}"

    def token(self, secret):
        return secret, [
            "Use ~ for now.", "token: ~", "my key is ~ and it still works", "export KEY=~", "`~`", "Der Schlüssel ist ~, bitte löschen.",
            "Le jeton est ~.", "La clave: ~", "Il token è ~", "A chave é ~.", "Mijn sleutel: ~", "Klucz: ~", "Ключ: ~",
            "キーは~です", "密钥是~，请保密", "키는 ~ 입니다", "Anahtar ~.", "Nyckeln är ~.", '{"key": "~"}', "```\nKEY = '~'\n```", "(~)",
            "git clone with ~ then push", "| key | ~ |",
        ]

    def github(self):
        return self.token(self.any(f"gh{self.any(*'oprsu')}_{self.signs(36)}", f"github_pat_{self.signs(22)}_{self.signs(59)}"))

    def gitlab(self):
        return self.token(self.any("glpat-", "gldt-", "glrt-") + self.signs(20, ALNUM + "-_"))

    def aws(self):
        if self.rng.random() < 0.5:
            return self.token(self.any("AKIA", "ASIA") + self.signs(16, BASE32))
        return self.signs(40, ALNUM + "/+"), [
            "aws_secret_access_key = ~", "AWS_SECRET_ACCESS_KEY=~", '"SecretAccessKey": "~"', "the secret access key is ~",
            "[default]\naws_secret_access_key=~\nregion=eu-west-1", "Secret Key: ~",
        ]

    def google(self):
        return self.token(self.any("AIza" + self.signs(35, ALNUM + "-_"), "GOCSPX-" + self.signs(28, ALNUM + "-_")))

    def slack(self):
        digits = lambda: self.signs(12, string.digits)
        if self.rng.random() < 0.3:
            secret = f"T{self.signs(8, BASE32)}/B{self.signs(8, BASE32)}/{self.signs(24)}"
            return secret, ["https://hooks.slack.com/services/~", "Post it to https://hooks.slack.com/services/~ please."]
        return self.token(f"xox{self.any(*'bp')}-{digits()}-{digits()}-{self.signs(24)}")

    def stripe(self):
        return self.token(f"{self.any('sk', 'rk')}_{self.any('live', 'test')}_{self.signs(self.any(24, 99))}")

    def openai(self):
        return self.token(self.any(f"sk-{self.signs(48)}", "sk-proj-" + self.signs(120, ALNUM + "-_"), "sk-svcacct-" + self.signs(60)))

    def anthropic(self):
        return self.token("sk-ant-api03-" + self.signs(93, ALNUM + "-_") + "AA")

    def hugging_face(self):
        return self.token("hf_" + self.signs(34, string.ascii_letters))

    def registry(self):
        return self.token(self.any("npm_" + self.signs(36), "pypi-AgEIcHlwaS5vcmc" + self.signs(140, ALNUM + "-_")))

    def jwt(self):
        part = lambda value: base64.urlsafe_b64encode(json.dumps(value, separators=(',', ':')).encode()).decode().rstrip("=")
        head = part({"alg": self.any("HS256", "RS256"), "typ": "JWT"})
        body = part({"sub": self.signs(10, string.digits), "name": "Anna", "iat": 1700000000})
        return self.token(f"{head}.{body}.{self.signs(43, ALNUM + '-_')}")

    def private_key(self):
        name = self.any("RSA PRIVATE KEY", "PRIVATE KEY", "OPENSSH PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY",
                        "PGP PRIVATE KEY BLOCK")
        lines = [self.signs(64, ALNUM + "+/") for _ in range(self.rng.randrange(2, 25))] + [self.signs(31, ALNUM + "+/") + "="]
        secret = "\n".join([f"-----BEGIN {name}-----", *lines, f"-----END {name}-----"])
        return secret, ["~", "Here is the key:\n~", "Hier ist der Schlüssel:\n\n~\n\nBitte löschen.", "```\n~\n```", "Voici la clé :\n~\nMerci"]

    def url(self):
        secret = self.signs(self.rng.randrange(8, 20))
        scheme = self.any("https", "postgres", "mysql", "redis", "amqp", "mongodb+srv", "ftp", "smtp")
        link = f"{scheme}://{self.any('anna', 'admin', 'root', '')}:~@{self.any('db.example.org', '10.0.0.7:5432', 'localhost')}/a"
        return secret, [link, f"It is at {link}, as before.", f"DATABASE_URL={link}", f"Die Adresse: {link}", f"см. {link}", f"接続先は{link}です"]

    def seed_phrase(self):
        n = self.any(12, 12, 24)
        entropy = bytes(self.rng.randrange(256) for _ in range(n * 4 // 3))
        bits = int.from_bytes(entropy + hashlib.sha256(entropy).digest()[:1], "big")
        bits >>= 8 - n // 3
        words = [self.words[bits >> 11 * i & 2047] for i in reversed(range(n))]
        secret = self.any(" ".join(words), ", ".join(words), " ".join(f"{i}. {word}" for i, word in enumerate(words, 1)),
                          "\n".join(words))
        return secret, ["My wallet: ~", "The words are ~", "Write this down!\n~", "Die Wörter: ~", "Les mots sont ~", "~"]

    def named_key(self):
        secret = self.any(self.signs(32, HEX), self.signs(40), self.signs(24, ALNUM + "-_"), self.signs(64, HEX))
        return secret, [
            "API_KEY=~", "api_key: ~", '"client_secret": "~"', "The API key is ~.", "secret_key = '~'", "auth token: ~",
            "Der API-Schlüssel lautet ~.", "La clé API est ~.", "La clave de API es ~.", "La chiave API è ~.", "A chave da API é ~.",
            "Klucz API: ~", "Ключ API: ~", "APIキーは~です", "API密钥：~", "API 키는 ~ 입니다", "API anahtarı: ~", "API-nyckeln är ~.",
            "Authorization: Bearer ~", "https://example.org/feed?token=~", "access token = ~", "X-Api-Key: ~",
        ]


KINDS = [
    "password", "pin", "card", "iban", "identity", "github", "gitlab", "aws", "google", "slack", "stripe", "openai", "anthropic",
    "hugging_face", "registry", "jwt", "private_key", "url", "seed_phrase", "named_key",
]


def luhn(number):
    places = [int(d) for d in reversed(number)]
    return (sum(places[::2]) + sum(d * 2 - 9 * (d > 4) for d in places[1::2])) % 10 == 0


def parts(number, sizes):
    at = 0
    for size in sizes:
        yield number[at : at + size]
        at += size


def plant(text, sentence, rng):
    """Puts a sentence at the beginning or end of a text, between two of its sentences, or on a line of its own."""
    if "\n" in sentence or rng.random() < 0.4:
        lines = text.split("\n")
        lines.insert(rng.randrange(len(lines) + 1), sentence)
        return "\n".join(lines)
    sentences = text.split(". ")
    place = rng.randrange(len(sentences) + 1)
    before, after = ". ".join(sentences[:place]), ". ".join(sentences[place:])
    return " ".join(part for part in (before + "." * bool(before and after), sentence, after) if part)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-kind", type=int, default=10)
    args = parser.parse_args()
    from mnemonic import Mnemonic

    rng = random.Random(args.seed)
    kinds = Kinds(rng, Mnemonic("english").wordlist)
    items = [json.loads(line) | {"secrets": []} for line in ALICE.read_text().splitlines()]
    places = [(item, side) for item in items for side in ("prompt", "response")]
    rng.shuffle(places)
    drawn = [kind for kind in KINDS for _ in range(args.per_kind)]
    for kind, (item, side) in zip(drawn, places, strict=False):
        secret, texts = getattr(kinds, kind)()
        item[side] = plant(item[side], rng.choice(texts).replace("~", secret), rng)
        item["secrets"].append({"kind": kind, "side": side, "secret": secret})
    for item in items:
        print(json.dumps(item, ensure_ascii=False))


if __name__ == "__main__":
    main()
