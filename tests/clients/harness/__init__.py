"""What all client suites share: a broker of their own, results, installing, and running a program that reports cases."""
