"""The fidelity check: one scenario run twice, simulated and as real processes over Mosquitto, and compared.

    python -m grapevine_lab.fidelity SCENARIO --out DIR [--seeds N]

scenario ─▶ prepare ─┬▶ simulator ────────────────────────────────────────────▶ Measurements ─┬▶ comparison
                     └▶ shares as npz, agent.toml ─▶ Mosquitto, real agents ─▶ onlooker ─▶ Measurements ─┘

Both sides have the same task, the same initial weights and, seed by seed, the same samples on the same
nodes. What chance decides beside that (who gossips when with whom, in which order samples are trained
on) differs, as it does between two real runs.
"""
