"""Words that questions and answers use for one another: irregular forms and near synonyms."""

from __future__ import annotations

from functools import cache

from nemoflows.language.terms import terms

_GROUPS = """
write wrote written author wrote penned writer
die died dead death dying
kill killed casualties slain
born birth birthplace
begin began begun start commence launch
end finish conclude cease
build built construct erect
buy bought purchase acquire
sell sold sale
make made create produce
found founder establish
find found discover discovery
win won victory winner champion triumph
defeat beat beaten
lose lost loss
lead led leader head command
fight fought battle combat
teach taught teacher professor
leave left depart
become became
hold held
give gave given grant award
take took taken
speak spoke spoken language
know knew known
choose chose chosen select
grow grew grown growth
rise rose risen increase
fall fell fallen decrease decline drop reduce
bring brought
think thought believe consider
pay paid cost price
send sent
spend spent
see saw seen view
go went gone
come came arrive
eat ate eaten
run ran execute
keep kept retain
lie situated located location
call named termed name title
big large great huge
biggest largest greatest
film movie
country nation
city town
job occupation profession career
religion religious faith
use employ utilise utilize
need require necessary
get obtain receive
stop prevent halt avoid
allow permit enable let
help aid assist support
change modify alter amend
remove delete drop
error exception fail failure
configure set setting option
argument parameter
folder directory
install setup
show display
join joined member membership
rule reign ruled king
attack invade invasion
law legislation statute
marry married wife husband spouse
child children son daughter
money fund financial
amount quantity
first earliest initial original
last final latest
old oldest age
near close next adjacent
contain include comprise consist
cause lead result
oppose against resist
say said state claim argue assert
speed fast rate
doctor physician
car vehicle automobile
""".strip().splitlines()
"""A line holds words that stand for one another, each word in as many lines as it has senses."""


@cache
def kin(term: str) -> frozenset[str]:
    """Return the stems that may stand for `term`, itself not among them."""
    return _table().get(term, frozenset())


@cache
def _table() -> dict[str, frozenset[str]]:
    table: dict[str, frozenset[str]] = {}
    for line in _GROUPS:
        group = frozenset(terms(line))
        for term in group:
            table[term] = table.get(term, frozenset()) | group - {term}
    return table
