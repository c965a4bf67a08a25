"""Runs in the environment of tap-fullstory: the tap as it is, with another address than FullStory's.

`python tap.py URL --config FILE`, its records on standard output.
"""

import sys

import tap_fullstory

if __name__ == "__main__":
    tap_fullstory.BASE_URL = f"{sys.argv.pop(1)}/api/v1/export/"
    tap_fullstory.main()
