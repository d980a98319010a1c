// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

/// @title A list of firmware that stores five arguments unchanged
/// @notice A minimal reconstruction of how a published system stores releases: each upload has five arguments, four of
/// them strings, and only the newest release can be read. The contract is only for measurements; do not deploy it.
contract StringRegistry is Ownable {
    struct Firmware {
        string name;
        string version;
        string ipfsAddress;
        string oemKey;
        uint256 size;
    }

    Firmware[] private _uploads;

    constructor(address initialOwner) Ownable(initialOwner) {}

    function upload(
        string calldata name,
        string calldata version,
        string calldata ipfsAddress,
        string calldata oemKey,
        uint256 size
    ) external onlyOwner {
        _uploads.push(Firmware(name, version, ipfsAddress, oemKey, size));
    }

    function newest() external view returns (Firmware memory) {
        return _uploads[_uploads.length - 1];
    }
}
