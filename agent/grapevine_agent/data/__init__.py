"""Data sources: what the owner of a device lets tasks train on.

    [[data]] ─▶ DataSource ─describe▶ Description ─match▶ fits, or why not          in the service
                           ─load▶ RawSamples ─split, pipeline▶ Samples              in the trainer process

Matching looks at headers only, so it costs little to ask for every task that is announced. Each kind of
source is one module (`formats`); live MQTT topics are recorded into a bounded database while the agent runs
(`recorder`), which then is a source like any other. Samples never leave the device: peers are told the kinds.
"""
