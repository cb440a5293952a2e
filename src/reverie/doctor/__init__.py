"""The doctor: what is wrong with a home, why, and what to do about it.

Purpose: look at everything a home consists of (databases, index, files, cache, leftovers, settings) and say what is
wrong, with cause and remedy; repair what is derived, when asked to.

Invariant: looking changes nothing, and works beside a running server; a repair needs the home alone, changes derived
data only, a bounded number of rows a transaction, and is believed only after a second look.

Start reading at `run.py`, which has every group of checks in order; `finding.py` says what a finding is.
"""

from reverie.doctor.finding import Examination, Finding, Severity, TableSize
from reverie.doctor.indexed import Indexed, indexed_of
from reverie.doctor.patient import Patient, Surroundings, open_patient
from reverie.doctor.run import examine, repair
from reverie.doctor.vectors import check_vectors, probe

__all__ = [
    "Examination",
    "Finding",
    "Indexed",
    "Patient",
    "Severity",
    "Surroundings",
    "TableSize",
    "check_vectors",
    "examine",
    "indexed_of",
    "open_patient",
    "probe",
    "repair",
]
