"""Amazon MSK with IAM: OAUTHBEARER with tokens that Amazon's own library signs. Needs the extra `msk`."""

from dataclasses import dataclass

from aws_msk_iam_sasl_signer import MSKAuthTokenProvider

from beam_unified.secrets import Secret


def msk_iam(region: str) -> dict[str, object]:
    """Settings for `Kafka("b-1...:9098", config=msk_iam("eu-west-1"))`, of any of the clients.

    A token is signed on the worker for each connection, with what AWS's default chain of credentials finds there: environment,
    profile, the role of the instance or the pod. Nothing of them is in the pipeline. A token holds for 15 minutes; before a session
    ends, the client brings another.

    Args:
        region: Of the cluster.
    """
    return {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauth_token_provider": Secret(f"AWS credentials, for MSK in {region}", _SignedToken(region)),
    }


@dataclass(frozen=True, slots=True)
class _SignedToken:
    region: str

    def __call__(self) -> str:
        token, _expiry_ms = MSKAuthTokenProvider.generate_auth_token(self.region)
        return str(token)
