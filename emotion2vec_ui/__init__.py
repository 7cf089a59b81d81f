"""Speech emotion recognition: page, REST API and command line around emotion2vec_plus_large."""

__version__ = "1.0.0"
