"""Is the pulled model worth pulling? Hourly weather at several stations, trained without anybody choosing rounds."""
