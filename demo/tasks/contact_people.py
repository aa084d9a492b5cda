"""Names and companies for the ``contact`` task. The two splits share first names, no surnames or companies."""

from __future__ import annotations

from .task import Split


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    "Amira Anna Aisha Akira Alice André Beatriz Ben Björn Carla Carlos Chen Chloe Daniel Diego Elena Emeka Emma "
    "Farid Fatima Felix Gita Grace Hana Hassan Helen Hugo Ingrid Isaac Ivan Jana Jamal James João José Julia Kai "
    "Karin Kofi Laura Leila Leo Lina Luca Lucía Marco Maria Mateo Maya Mei Milan Mina Nadia Nina Noah Nora Olga "
    "Oliver Omar Paula Pedro Petra Priya Rafael Ravi Rosa Ruth Samir Sara Sofia Sven Tariq Tessa Thomas Tomás Uma "
    "Vera Victor Wei William Yara Yusuf Zoe Zoltan"
)

SURNAMES: dict[Split, tuple[str, ...]] = {
    "train": _words(
        "Abbott Adeyemi Ahmed Almeida Andersen Arslan Baker Banerjee Barros Bauer Becker Bennett Bianchi Boateng "
        "Brandt Braun Brooks Campbell Cardoso Castillo Chang Chowdhury Clarke Collins Conti Cooper Cruz Dahl "
        "Danso Delgado Desai Diallo Dubois Duarte Eriksen Esposito Evans Fabre Farouk Ferreira Fischer Fleming "
        "Fontaine Foster Fujita Garcia Gallo Ghosh Gomez Greco Gupta Haddad Hansen Hartmann Hayashi Hoffmann "
        "Horvath Hughes Ibrahim Iyer Jansen Jensen Joshi Kamara Kapoor Kaya Keller Khan Kim Kovacs Krause Kruger "
        "Lambert Larsen Lefebvre Lehmann Lopez Lund Mahmoud Marino Martin Mehta Mendes Meyer Moreau Morris Müller "
        "Nakamura Navarro Nguyen Nowak Okafor Oliveira Olsen Ortiz Osei Park Patel Pereira Perez Petrov Pham "
        "Popescu Quinn Rahman Ramos Reyes Ricci Richter Romano Rossi Roux Russo Saito Santos Sato Schmidt Sharma "
        "Silva Singh Sorensen Suzuki Tanaka Taylor Tran Turner Vargas Vega Virtanen Vogel Wagner Walsh Weber "
        "Wilson Wood Yamamoto Yilmaz Young Zhang Ziegler"
    ),
    "held_out": _words(
        "Achebe Aguilar Bergström Bouchard Calloway Chaudhry Dvorak Eklund Fitzgerald Galvão Halvorsen Ishikawa "
        "Jovanovic Kowalski Lindqvist Mbeki Moretti Narayan Ogunleye Pavlova Quiroga Rasmussen Sandoval Thorne "
        "Uchida Vasquez Whitaker Xu Yeboah Zielinski"
    ),
}

# One word of a company's name; it is joined with a kind of business and a legal form.
COMPANY_STEMS: dict[Split, tuple[str, ...]] = {
    "train": _words(
        "Alderwood Ambergate Aquila Arcadia Ashgrove Astera Bluepeak Brightforge Brookfield Calderon Cascade "
        "Cedarline Clearwater Cobalt Copperfield Corvus Crestline Dovetail Driftwood Eastgate Elmstone Emberly "
        "Evergreen Fairmont Falconer Fernhill Foxglove Garnet Glenmoor Goldleaf Granite Greystone Halcyon "
        "Hawthorn Hazelbrook Heron Highmark Ironbridge Ivory Juniper Kestrel Kingsley Lakeshore Lantern Larkspur "
        "Lumen Maplewood Marlowe Meridian Millstone Moonrise Northwind Oakridge Obsidian Orchard Osprey Palmetto "
        "Pinecrest Quarry Ravenhill Redwood Ridgeway Riverstone Rosewood Saffron Sandbar Seabright Silverline "
        "Solara Stonebridge Summit Sunfield Swift Tamarind Thistle Tidewater Verdant Vista Westbrook Whitestone "
        "Willowbank Windmere Wolfram Zephyr"
    ),
    "held_out": _words(
        "Birchfield Bramble Cloudberry Dunmore Fernwick Gullwing Harrowgate Inkwell Jadeport Kelpstone Limepark "
        "Mistral Nightjar Pebblebrook Quicksand Rainmark Snowdrift Thornbury Umberline Wrenfield"
    ),
}
COMPANY_KINDS = _words(
    "Labs Design Logistics Foods Media Software Energy Motors Travel Health Partners Systems Studio Print Textiles "
    "Consulting"
)
COMPANY_FORMS = ("", "", "", " Ltd", " GmbH", " Inc", " SA", " Group", " & Co")
COMPANY_ROLES = ("info", "sales", "hello", "office", "support", "contact", "orders")
TOP_DOMAINS = ("com", "com", "com", "org", "net", "io", "co.uk", "de", "fr", "eu")
# Reserved names (RFC 2606): with a real provider a made-up address may be somebody's.
MAIL_PROVIDERS = ("example.com", "example.org", "example.net", "mail.example", "post.example", "home.example")
PHONE_PATTERNS = (
    "555-01##",
    "(###) 555-01##",
    "###-555-01##",
    "+1 ### 555 01##",
    "+44 20 7946 0###",
    "+49 30 5550 ####",
    "+33 1 55 00 ## ##",
    "0## 555 ####",
    "01632 960###",
)
