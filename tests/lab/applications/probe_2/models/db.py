# A string that must never reach a browser: MODEL-SOURCE-OF-PROBE
migrated = True
