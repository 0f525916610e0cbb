"""Examples: a line for each command's help that works as it stands. The tests run them, or at least read them."""

EXAMPLES: dict[str, str] = {
    "till demo": "till demo --no-keep",
    "till serve": "till serve --host 127.0.0.1 --port 8480",
    "till worker": "till worker --once",
    "till migrate": "till migrate",
    "till doctor": "till doctor",
    "till version": "till version --json",
    "till help": "till help stripe list",
    "till grant": 'till grant alice 1,000 --reason "sorry for Tuesday" --expires 2099-12-31',
    "till deduct": 'till deduct alice 10 --reason "charged back"',
    "till spend": "till spend alice 40 chat_conversation --model gpt-5 --key 7f3a",
    "till drip": "till drip alice sub_1 --clock",
    "till preview": "till preview alice --cycles 6",
    "till hold": "till hold alice 400 chat_conversation --ttl 600",
    "till renew": "till renew alice HOLD --ttl 600",
    "till capture": "till capture alice HOLD 250",
    "till void": "till void alice HOLD",
    "till balance": "till balance alice",
    "till holds": "till holds alice --all",
    "till history": "till history alice --limit 5",
    "till reconcile": "till reconcile",
    "till reprice": "till reprice --from 2026-11-01 --dry-run",
    "till subscription list": "till subscription list alice",
    "till subscription show": "till subscription show alice sub_1",
    "till subscription pause": 'till subscription pause alice sub_1 --reason "on leave"',
    "till subscription resume": "till subscription resume alice sub_1",
    "till subscription cancel": 'till subscription cancel alice sub_1 --reason "asked for it"',
    "till stripe list": "till stripe list --state failed --since 2026-11-01",
    "till stripe show": "till stripe show evt_1OqTVf2eZvKYlo2C",
    "till stripe retry": "till stripe retry --failed",
    "till stripe ignore": 'till stripe ignore evt_1OqTVf2eZvKYlo2C --reason "a test of the old shop"',
    "till stripe link": "till stripe link cus_9s6XKzkNRiz8i3 alice",
    "till stripe replay": "till stripe replay events/ --dry-run",
    "till stripe payment": "till stripe payment pi_3Abc",
    "till stripe preview-refund": "till stripe preview-refund pi_3Abc 2500",
    "till stripe checkout": "till stripe checkout alice mega --success-url https://app.example/thanks",
    "till stripe portal": "till stripe portal alice --return-url https://app.example/account",
    "till stripe sync-catalog": "till stripe sync-catalog --dry-run",
    "till catalog show": "till catalog show",
    "till catalog load": "till catalog load prices.toml --dry-run",
    "till actions list": "till actions list",
    "till actions show": "till actions show chat_conversation",
    "till actions set": "till actions set chat_conversation --model gpt-5 --temperature 0.7 --dry-run",
    "till actions deactivate": "till actions deactivate chat_conversation",
    "till prices list": "till prices list --provider openai --model gpt-5",
    "till prices show": "till prices show gpt-5",
    "till prices set": "till prices set gpt-5 --provider openai --input 125 --output 1,000",
    "till prices withdraw": "till prices withdraw gpt-5 --provider openai",
    "till prices add": "till prices add my-model --provider own",
    "till prices update": "till prices update --dry-run",
    "till prices check": "till prices check --days 30",
    "till prices cost": """till prices cost gpt-5 --pools '{"input_uncached": 1000, "output_text": 50}'""",
    "till findings": "till findings --all",
    "till findings close": "till findings close 0198c9f0-6c1e-7a4b-9d39-3f0f6f1f5a11",
    "till bench spend": "till bench spend --seconds 1 --runs 1",
    "till bench http": "till bench http --callers 64 --batch 100",
    "till bench webhook": "till bench webhook --callers 64 --seconds 3",
    "till bench holds": "till bench holds --seconds 1 --runs 1",
    "till bench growth": "till bench growth --rows 100000 --seconds 1",
    "till bench recover": "till bench recover --kills 1",
    "till bench memory": "till bench memory --accounts 5000",
    "till bench meter": "till bench meter --calls 300",
}

FIRST_STEPS = """\b
First steps:
  till demo                                a small world, played and proved
  till grant alice 1,000                   give a user tokens
  till balance alice                       what they hold now
  till serve                               the HTTP API
  till doctor                              is all well, and what to do if not

\b
`till help COMMAND` says what a command takes; --json may stand anywhere.
Completion of your shell: `till --install-completion`."""


def epilog_of(command: str) -> str:
    return f"\b\nExample:\n  {EXAMPLES[command]}"
