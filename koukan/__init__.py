"""Koukan: a mail gateway between SMTP and applications that lives on Kubernetes."""
