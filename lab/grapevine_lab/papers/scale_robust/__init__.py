"""Mitra and Ulukus, "Scale-Robust Timely Asynchronous Decentralized Learning": its figures and theorems, measured."""
