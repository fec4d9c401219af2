#!/usr/bin/env bash
# A model from a file to an endpoint and away again with the AWS CLI.
set -euo pipefail

name="cli-$RANDOM$RANDOM"
folder=$(mktemp -d)
policy=arn:aws:iam::aws:policy/AmazonSageMakerFullAccess
image=683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.4-2-cpu-py3

remove() {
  set +e
  aws sagemaker delete-endpoint --endpoint-name "$name" 2>/dev/null && aws sagemaker wait endpoint-deleted --endpoint-name "$name"
  aws sagemaker delete-endpoint-config --endpoint-config-name "$name" 2>/dev/null
  aws sagemaker delete-model --model-name "$name" 2>/dev/null
  aws s3 rb "s3://$name" --force >/dev/null 2>&1
  aws iam detach-role-policy --role-name "$name" --policy-arn "$policy" 2>/dev/null
  aws iam delete-role --role-name "$name" 2>/dev/null
  rm -rf "$folder"
}
trap remove EXIT

is() { # what is, what should be
  [[ "$1" == "$2" ]] || { echo "line ${BASH_LINENO[0]}: got '$1', not '$2'" >&2; exit 1; }
}

account=$(aws sts get-caller-identity --query Account --output text)
role=$(aws iam create-role --role-name "$name" --query Role.Arn --output text --assume-role-policy-document \
  '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}]}')
aws iam attach-role-policy --role-name "$name" --policy-arn "$policy"
is "$(aws iam simulate-principal-policy --policy-source-arn "$role" --action-names sagemaker:CreateModel --query 'EvaluationResults[0].EvalDecision' --output text)" allowed

# A model in a bucket.
python - "$folder" <<'PYTHON'
import sys, tarfile
import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

skops.io.dump(LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True)), f"{sys.argv[1]}/model.skops")
with tarfile.open(f"{sys.argv[1]}/model.tar.gz", "w:gz") as tar:
    tar.add(f"{sys.argv[1]}/model.skops", "model.skops")
PYTHON
aws s3 mb "s3://$name" >/dev/null
aws s3 cp "$folder/model.tar.gz" "s3://$name/iris/model.tar.gz" --no-progress >/dev/null
aws s3 cp "s3://$name/iris/model.tar.gz" "$folder/again.tar.gz" --no-progress >/dev/null
cmp "$folder/model.tar.gz" "$folder/again.tar.gz"
aws s3 sync "$folder" "s3://$name/folder/" --exclude '*' --include '*.skops' >/dev/null
is "$(aws s3 ls "s3://$name/" --recursive | wc -l | tr -d ' ')" 2
aws s3 rm "s3://$name/folder/" --recursive >/dev/null

# An endpoint.
aws sagemaker create-model --model-name "$name" --execution-role-arn "$role" \
  --primary-container "Image=$image,ModelDataUrl=s3://$name/iris/model.tar.gz" --tags Key=team,Value=a >/dev/null
aws sagemaker create-endpoint-config --endpoint-config-name "$name" --production-variants \
  "VariantName=AllTraffic,ModelName=$name,InstanceType=ml.m5.large,InitialInstanceCount=1" >/dev/null
arn=$(aws sagemaker create-endpoint --endpoint-name "$name" --endpoint-config-name "$name" --query EndpointArn --output text)
is "$arn" "arn:aws:sagemaker:us-east-1:$account:endpoint/$name"
aws sagemaker wait endpoint-in-service --endpoint-name "$name"
is "$(aws sagemaker describe-endpoint --endpoint-name "$name" --query EndpointStatus --output text)" InService
is "$(aws sagemaker describe-endpoint-config --endpoint-config-name "$name" --query 'ProductionVariants[0].ModelName' --output text)" "$name"
is "$(aws sagemaker describe-model --model-name "$name" --query ExecutionRoleArn --output text)" "$role"

# Answers.
aws sagemaker-runtime invoke-endpoint --endpoint-name "$name" --content-type text/csv --accept text/csv \
  --body '5.1,3.5,1.4,0.2' "$folder/answer" >/dev/null
is "$(tr -d '\r\n' <"$folder/answer")" 0

# Lists and tags.
is "$(aws sagemaker list-endpoints --name-contains "$name" --query 'Endpoints[].EndpointName' --output text)" "$name"
is "$(aws sagemaker list-endpoints --status-equals Failed --name-contains "$name" --query 'length(Endpoints)')" 0
is "$(aws sagemaker list-models --name-contains "$name" --max-items 1 --query 'Models[0].ModelName' --output text)" "$name"
is "$(aws sagemaker list-endpoint-configs --name-contains "$name" --query 'length(EndpointConfigs)')" 1
is "$(aws sagemaker list-tags --resource-arn "arn:aws:sagemaker:us-east-1:$account:model/$name" --query 'Tags[0].Value' --output text)" a
aws sagemaker add-tags --resource-arn "$arn" --tags Key=stage,Value=test >/dev/null
is "$(aws sagemaker list-tags --resource-arn "$arn" --query 'Tags[].Key' --output text)" stage
aws sagemaker delete-tags --resource-arn "$arn" --tag-keys stage
is "$(aws sagemaker list-tags --resource-arn "$arn" --query 'length(Tags)')" 0

# Weights, a second configuration, logs.
aws sagemaker update-endpoint-weights-and-capacities --endpoint-name "$name" \
  --desired-weights-and-capacities VariantName=AllTraffic,DesiredWeight=2 >/dev/null
aws sagemaker wait endpoint-in-service --endpoint-name "$name"
aws sagemaker update-endpoint --endpoint-name "$name" --endpoint-config-name "$name" --retain-all-variant-properties >/dev/null
aws sagemaker wait endpoint-in-service --endpoint-name "$name"
is "$(aws logs describe-log-groups --log-group-name-prefix "/aws/sagemaker/Endpoints/$name" --query 'length(logGroups)')" 1

for _ in {1..30}; do
  count=$(aws cloudwatch get-metric-statistics --namespace AWS/SageMaker --metric-name Invocations --statistics Sum --period 3600 \
    --dimensions Name=EndpointName,Value="$name" Name=VariantName,Value=AllTraffic --query 'sum(Datapoints[].Sum)' --output text \
    --start-time "$(date -u -d '-1 hour' +%FT%TZ)" --end-time "$(date -u -d '+1 minute' +%FT%TZ)")
  [[ "$count" == 1* ]] && break
  sleep 2
done
is "${count%%.*}" 1

# What is wrong is said.
if wrong=$(aws sagemaker describe-endpoint --endpoint-name "$name-none" 2>&1); then exit 1; fi
[[ "$wrong" == *"(ValidationException)"*"Could not find endpoint"* ]]

# And away.
aws sagemaker delete-endpoint --endpoint-name "$name"
aws sagemaker wait endpoint-deleted --endpoint-name "$name"
aws sagemaker delete-endpoint-config --endpoint-config-name "$name"
aws sagemaker delete-model --model-name "$name"
aws s3 rb "s3://$name" --force >/dev/null
aws iam detach-role-policy --role-name "$name" --policy-arn "$policy"
aws iam delete-role --role-name "$name"
rm -rf "$folder"
trap - EXIT
