"""Names of files and folders for the ``shell`` task; the two splits share none."""

from __future__ import annotations

from .task import Split


def _names(train: str, held_out: str) -> dict[Split, tuple[str, ...]]:
    return {"train": tuple(train.split()), "held_out": tuple(held_out.split())}


FOLDERS = _names(
    "photos music docs backup src build logs data images videos downloads projects invoices letters recipes maps "
    "reports fonts icons themes plugins modules tests scripts samples uploads exports drafts archive-2023 old_site "
    "home-office team_a release public private shared students holidays drawings scans receipts mail books games "
    "tools assets templates posters surveys",
    "novels charts budget-plans sketches podcasts lectures warehouse concert_tour firmware puzzles garden labels "
    "snapshots payroll trail-maps dialogues quotes widgets mirrors interviews",
)
STEMS = _names(
    "notes report todo app server access main index users orders prices list budget letter address config settings "
    "results scores names input output summary draft agenda minutes readme changes errors events customers products "
    "stock sales plan schedule tasks recipe story poem chapter thesis diary weather cities words numbers members "
    "guests songs sensor metrics visits",
    "inventory ledger glossary roster manifest timings voters essay anthem outline parcels harvest tides species "
    "lottery syllabus menu teams planets voltage",
)
TEXT_EXTENSIONS = _names(
    "txt log csv md py html json xml yml conf tex sql dat ini js css tsv",
    "rst toml rb go java svg lst php cfg",
)
# Of files that one does not read line by line.
OTHER_EXTENSIONS = _names("jpg png pdf mp3 zip bak tmp docx", "gif wav xlsx swp")
WORDS = _names(
    "error warning failed timeout TODO user login admin price total main import return class London Berlin Monday "
    "January invoice apple yellow secret token version hello deprecated started stopped null color",
    "panic refused FIXME guest copper Lisbon Friday August lambda export velvet overflow expired checksum retry",
)
ARCHIVES = _names(
    "backup site photos2024 old-files project release-1 home bundle week12 all_docs sources export monthly",
    "vault spring-issue museum farm_data course7 offsite",
)
